from controller.access.operator import Role
from controller.fleet_config.document import MAX_BYTES
from controller.registry.version import Model, State
from tests.controller.rollout.world import START, device, registered
from tests.controller.web.api import Api

FILE = """
[fleet]
name = "meters"
selector = "kind=meter"
[[models]]
name = "load"
version = "load@champion"
"""


def prepared(api: Api) -> None:
    with api.store.begin() as tx:
        tx.registry.put_model(Model("load", START, 1))
        for version in (1, 2):
            tx.registry.put_version(registered("load", version))
        tx.registry.put_alias("load", "champion", 1)
        for name in ("m1", "m2", "m3"):
            tx.devices.put(device(name, {"kind": "meter", "site": "berlin"}, {}))


async def test_a_fleet_is_planned_applied_listed_and_shown(api: Api) -> None:
    prepared(api)

    plan = await api.post("fleets/plan", {"text": FILE}, Role.VIEWER)
    assert (plan["fleet"], plan["changes"]) == ("meters", True)
    (model,) = plan["models"]
    assert (model["action"], model["rollout"], model["version"]) == ("start", "load-1-1", 1)
    assert model["reference"] == "load@champion"
    assert sorted(model["devices"]) == ["m1", "m2", "m3"]
    assert model["sites"]["berlin"] == {"devices": 3, "bytes": 3 * model["bundle_bytes"]}
    assert sum(len(one["devices"]) for one in model["stages"]) == 3
    assert model["ends_at"] == max(one["ends_at"] for one in model["stages"])
    assert plan["lines"][0] == "fleet meters: 1 rollout would start"
    assert (await api.get("fleets"), api.asked) == ([], [])

    done = await api.post("fleets/apply", {"text": FILE}, Role.OPERATOR)
    assert (done["started"], done["ended"]) == (["load-1-1"], [])
    assert api.asked == ["wake"]
    again = await api.post("fleets/apply", {"text": FILE}, Role.OPERATOR)
    assert (again["started"], again["lines"]) == ([], ["nothing to do"])
    assert api.asked == ["wake"]

    (row,) = await api.get("fleets")
    assert (row["name"], row["applied_by"]) == ("meters", "operator")
    shown = await api.get("fleets/meters")
    assert (shown["text"], shown["sha256"]) == (FILE, row["sha256"])
    assert shown["lines"] == [
        "fleet meters: nothing to start",
        "load/1 (load@champion): unchanged (load-1-1, running)",
    ]
    (record,) = [
        one for one in await api.get("audit", Role.VIEWER) if one["action"] == "fleet.apply"
    ]
    assert (record["subject"], record["detail"]["sha256"]) == ("meters", row["sha256"])


async def test_a_fleet_whose_version_was_recalled_still_shows_its_file(api: Api) -> None:
    prepared(api)
    await api.post("fleets/apply", {"text": FILE})
    with api.store.begin() as tx:
        tx.registry.put_version(registered("load", 1, State.RECALLED))

    shown = await api.get("fleets/meters")

    assert shown["plan"] is None
    assert shown["lines"][0] == "meters.toml: 1 problem"
    assert "meters.toml:7: [[models]] version: load/1 is recalled" in shown["lines"][1]


async def test_a_file_that_is_wrong_is_refused_by_line(api: Api) -> None:
    wrong = {"text": FILE + "[pace]\nper_minut = 3\n", "file": "m.toml"}
    for path in ("fleets/plan", "fleets/apply"):
        status, code, detail = await api.refusal("POST", path, json=wrong)
        assert (status, code) == (422, "fleet-file")
        assert "m.toml:9: [pace] per_minut: there is no such key; did you mean" in detail
    large = {"text": '"' * (MAX_BYTES + 1)}
    status, code, detail = await api.refusal("POST", "fleets/plan", json=large)
    assert (status, code) == (422, "fleet-file")
    assert f"{MAX_BYTES + 1} bytes" in detail
    assert (await api.refusal("POST", "fleets/plan", json={"text": "x" * (4 * MAX_BYTES)}))[
        0
    ] == 413
    half = b'{"text": "\\ud800 = 1"}'
    refused = await api.refusal("POST", "fleets/plan", content=half, type_="application/json")
    assert refused[0] == 422
    assert (await api.refusal("POST", "fleets/apply", json={"text": FILE, "x": 1}))[0] == 422
    assert (await api.refusal("GET", "fleets/none"))[:2] == (404, "not-found")


async def test_alerts_stand_in_the_answer_and_in_the_metrics(api: Api) -> None:
    prepared(api)
    text = FILE + "".join(
        f'[[alerts]]\nname = "{name}"\nmodel = "load"\nwhen = "fleet.devices {sign} 1"\n'
        for name, sign in (("many", ">="), ("few", "<"))
    )
    text += '[[alerts]]\nname = "slow"\nmodel = "load"\nwhen = "fleet.latency_p99 > 1"\n'
    await api.post("fleets/apply", {"text": text})

    shown = await api.get("fleets/meters")
    metrics = (await api.send("GET", "/metrics", Role.VIEWER)).text

    assert {one["name"]: one["state"] for one in shown["alerts"]} == {
        "many": "quiet",
        "few": "firing",
        "slow": "undecided",
    }
    assert "alert few (warning) of load is firing: fleet.devices 0" in shown["lines"]
    labels = 'fleet="meters",model="load",severity="warning"'
    assert f'muster_fleet_alert{{alert="few",{labels}}} 1.0' in metrics
    assert f'muster_fleet_alert{{alert="many",{labels}}} 0.0' in metrics
    assert 'alert="slow"' not in metrics
