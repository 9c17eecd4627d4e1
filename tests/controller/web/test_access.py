import re

import pytest

from controller.access.operator import Role
from controller.web.access import roles
from controller.web.app import API, ROUTERS
from tests.controller.web.api import Api

# What lower roles may do; whatever changes something and is not here takes an admin.
LOWER = {
    "PUT /devices/{device}/labels": Role.OPERATOR,
    "GET /tokens": Role.OPERATOR,
    "POST /tokens": Role.OPERATOR,
    "POST /rollouts": Role.OPERATOR,
    **{
        f"POST /rollouts/{{rollout}}/{verb}": Role.OPERATOR
        for verb in ("pause", "resume", "approve", "retry", "abort")
    },
    "POST /models/{model}/versions": Role.OPERATOR,
    "POST /models/{model}/versions/{version}/propose": Role.OPERATOR,
    "POST /models/{model}/versions/{version}/recall": Role.OPERATOR,
    "POST /models/{model}/versions/{version}/withdraw": Role.OPERATOR,
    "POST /models/{model}/renewal": Role.OPERATOR,
    "PUT /models/{model}/aliases/{alias}": Role.OPERATOR,
    "DELETE /models/{model}/aliases/{alias}": Role.OPERATOR,
    "POST /models/{model}/versions/{version}/signatures": Role.APPROVER,
    "GET /operators": Role.ADMIN,
    "POST /fleets/plan": Role.VIEWER,  # changes nothing
    "POST /fleets/apply": Role.OPERATOR,
    "POST /incidents/{incident}/close": Role.OPERATOR,
    "POST /federated/runs": Role.OPERATOR,
    **{
        f"POST /federated/runs/{{run}}/{verb}": Role.OPERATOR
        for verb in ("start", "stop", "resume", "dismiss")
    },
}


def asked() -> dict[str, Role | None]:
    """The role that each route asks for, by method and path."""
    return {
        f"{method.upper()} {path}": role
        for path, methods in roles(ROUTERS).items()
        for method, role in methods.items()
    }


async def test_every_route_asks_for_the_role_that_it_must(api: Api) -> None:
    due = {
        route: LOWER.get(route, Role.VIEWER if route.startswith("GET") else Role.ADMIN)
        for route in asked()
    }

    assert asked() == due
    assert set(due) >= set(LOWER)


async def test_the_description_lists_every_route_and_its_role_and_there_is_no_other(
    api: Api,
) -> None:
    described = (await api.send("GET", "openapi.json", None)).json()
    routes = {
        f"{method.upper()} {path.removeprefix(API)}": operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }

    assert set(routes) == set(asked())
    for route, role in asked().items():
        assert role is not None
        assert routes[route]["description"].endswith(f"Role: {role.name.lower()}.")
        assert routes[route]["tags"]
        assert "409" in routes[route]["responses"]
    assert {one["name"] for one in described["tags"]} >= {
        tag for operation in routes.values() for tag in operation["tags"]
    }
    assert (described["info"]["title"], described["info"]["version"]) == ("Muster", "1.0")


async def test_no_route_answers_without_a_token_or_with_too_low_a_role(api: Api) -> None:
    for route, role in asked().items():
        method, path = route.split()
        path = API + re.sub(r"\{[^}]+\}", "1", path)
        assert role is not None

        assert (await api.refusal(method, path, None))[:2] == (401, "not-authenticated")
        for lower in [one for one in Role if one < role]:
            status, code, detail = await api.refusal(method, path, lower)
            assert (status, code) == (403, "not-allowed"), route
            assert f"needs {role.name.lower()}" in detail


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer muster_op_wrong", "Bearer \xe9"]
)
async def test_a_credential_that_is_none_is_refused(api: Api, header: str) -> None:
    headers = [(b"Authorization", header.encode("latin-1"))]
    answer = await api.http.get("/api/v1/whoami", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "not-authenticated"


async def test_a_caller_learns_who_it_is(api: Api) -> None:
    assert await api.get("whoami", Role.APPROVER) == {
        "name": "approver",
        "role": "approver",
        "created_at": api.clock.at,
        "revoked_at": 0.0,
    }


async def test_operators_are_made_listed_and_revoked(api: Api) -> None:
    made = await api.post("operators", {"name": "eve", "role": "viewer"})
    with_token = {"Authorization": f"Bearer {made['token']}"}
    assert (await api.http.get("/api/v1/whoami", headers=with_token)).status_code == 200

    await api.post("operators/eve/revoke")

    assert (await api.http.get("/api/v1/whoami", headers=with_token)).status_code == 401
    listed = await api.get("operators", Role.ADMIN)
    assert [one["name"] for one in listed] == ["admin", "approver", "eve", "operator", "viewer"]
    assert made["token"] not in str(listed)
    assert await api.refusal("POST", "operators", json={"name": "x", "role": "god"}) == (
        422,
        "invalid-input",
        "role: 'god' is none of viewer, operator, approver, admin",
    )
    assert (await api.refusal("POST", "operators/admin/revoke"))[0] == 409
