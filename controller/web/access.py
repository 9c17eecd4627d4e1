"""Who calls, and whether they may: bearer tokens and roles as dependencies of routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from controller.access import actions
from controller.access.operator import Operator, Role
from controller.errors import NotAuthenticated
from controller.web.services import ControllerServices


def services(request: Request) -> ControllerServices:
    """What the application was made with."""
    found: ControllerServices = request.app.state.services
    return found


Services = Annotated[ControllerServices, Depends(services)]


@dataclass(frozen=True, slots=True)
class Requires:
    """A dependency: the caller, who has shown a token of this role or a higher one."""

    role: Role

    def __call__(self, request: Request, services: Services) -> Operator:
        """The caller.

        Raises:
            NotAuthenticated: no token, or none that is valid.
            NotAllowed: the role is too low.
        """
        operator = caller(request, services)
        actions.require(operator, self.role)
        return operator


def caller(request: Request, services: ControllerServices) -> Operator:
    """Whose bearer token the request bears.

    Raises:
        NotAuthenticated: it bears none, or none that is valid.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("no `Authorization: Bearer TOKEN` header")
    with services.store.read() as tx:
        return actions.authenticate(tx, token.strip())


Viewer = Annotated[Operator, Depends(Requires(Role.VIEWER))]
Operating = Annotated[Operator, Depends(Requires(Role.OPERATOR))]
Approver = Annotated[Operator, Depends(Requires(Role.APPROVER))]
Admin = Annotated[Operator, Depends(Requires(Role.ADMIN))]


def required_role(route: APIRoute) -> Role | None:
    """The role that a route asks for; None if it asks for none."""
    roles = [
        dependency.call.role
        for dependency in route.dependant.dependencies
        if isinstance(dependency.call, Requires)
    ]
    return max(roles, default=None)


def roles(routers: Iterable[APIRouter]) -> dict[str, dict[str, Role | None]]:
    """The role that each route asks for, by path and method ("get")."""
    found: dict[str, dict[str, Role | None]] = {}
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                asked = dict.fromkeys(map(str.lower, route.methods or ()), required_role(route))
                found.setdefault(route.path, {}).update(asked)
    return found


def describe_access(
    schema: dict[str, Any], by_path: Mapping[str, Mapping[str, Role | None]]
) -> None:
    """Adds the bearer token, and the role that each operation asks for, to an OpenAPI document."""
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"token": []}]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            role = by_path.get(path, {}).get(method)
            if role is not None:
                said = operation.get("description", "")
                operation["description"] = f"{said}\n\nRole: {role.name.lower()}.".strip()
