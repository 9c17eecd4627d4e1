"""What Prometheus reads of a device, with Prometheus' own parser."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from agent.federated.examples import Held
from agent.federated.tally import Spent, Tally
from agent.federated.yielding import Pace
from agent.serving.exposition import COUNTER, GAUGE, Family, exposition
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from agent.training_metrics import of_examples, of_tasks
from tests.agent.serving.rest_requests import asked
from tests.agent.serving.served import Served

Read = dict[tuple[str, tuple[str, ...]], float]


def read(page: str) -> Read:
    return {
        (one.name, tuple(one.labels.values())): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


async def test_requests_are_counted_by_model(http: httpx.AsyncClient) -> None:
    await http.post("/v2/models/linear/infer", json=asked())
    await http.post("/v2/models/linear/infer", json=asked())
    await http.post("/v2/models/linear/infer", json={"inputs": []})
    answer = await http.get("/metrics")
    found = read(answer.text)

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert found["muster_agent_requests_total", ("linear", "1")] == 2
    assert found["muster_agent_refused_total", ("linear", "1")] == 1
    assert found["muster_agent_failed_total", ("linear", "1")] == 0
    assert found["muster_agent_inference_seconds_total", ("linear", "1")] > 0
    assert found["muster_agent_requests_total", ("constant", "1")] == 0
    assert {name.startswith("muster_agent_") for name, _ in found} == {True}
    assert (await http.post("/metrics")).status_code == 405


async def test_what_is_measured_besides_stands_on_the_same_page(served: Served) -> None:
    kept = of_examples([("digits", Held(training=90, held_out=10))])
    workers = Workers(1)
    rest = RestServer(served.host.deployments, workers, measured=lambda: kept)
    port = await rest.start("127.0.0.1", 0)
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    await rest.stop()
    workers.close()

    found = read(page)
    assert found["muster_agent_examples", ("digits", "training")] == 90
    assert found["muster_agent_examples", ("digits", "held-out")] == 10
    assert ("muster_agent_requests_total", ("linear", "1")) in found


async def test_a_page_of_another_host_reads_no_metrics(http: httpx.AsyncClient) -> None:
    assert (await http.get("/metrics", headers={"Host": "evil.example"})).status_code == 403


def test_any_text_is_a_label_and_any_number_a_value() -> None:
    odd = 'a"b\\c\nd'
    page = exposition(
        [
            Family(
                "one_total", COUNTER, "Of one.", ("is", "of"), [((odd, ""), 1), (("x", "é"), 0.1)]
            ),
            Family("two", GAUGE, "Of none.", samples=[((), 2**53)]),
        ]
    ).decode()

    assert read(page) == {
        ("one_total", (odd, "")): 1,
        ("one_total", ("x", "é")): 0.1,
        ("two", ()): 2**53,
    }
    assert "# TYPE one_total counter\n" in page


def test_tasks_are_counted_by_what_came_of_them() -> None:
    tally, spent = Tally(), Spent()
    for name, code in (
        ("federated.trained", ""),
        ("federated.trained", ""),
        ("federated.declined", "on-battery"),
        ("federated.refused", "not-taken"),
    ):
        tally.happened(name, code)
    spent.add(Pace(running=False, since=7.0, ran=2.0, waited=0.5), 8.0, 3)
    spent.add(Pace(running=True, since=7.0), 7.25, 0)
    found = read(exposition(of_tasks(tally, spent)).decode())

    assert found == {
        ("muster_agent_tasks_total", ("trained",)): 2,
        ("muster_agent_tasks_total", ("evaluated",)): 0,
        ("muster_agent_tasks_total", ("declined",)): 1,
        ("muster_agent_tasks_total", ("refused",)): 1,
        ("muster_agent_declined_total", ("on-battery",)): 1,
        ("muster_agent_training_seconds_total", ("running",)): 2.25,
        ("muster_agent_training_seconds_total", ("waiting",)): 1.5,
        ("muster_agent_training_yields_total", ()): 3,
    }
