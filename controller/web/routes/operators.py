"""Operators: who may use the API."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from controller.access import actions
from controller.web.access import Admin, Services, Viewer
from controller.web.views import OperatorAnswer

router = APIRouter(tags=["operators"])


@dataclass(frozen=True, slots=True)
class NewOperator:
    """Who, and what they may do."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: str
    role: Annotated[str, Field(description="viewer, operator, approver or admin")]


@dataclass(frozen=True, slots=True)
class MadeOperator:
    """A new operator with the token, which is shown this once."""

    operator: OperatorAnswer
    token: str


@router.get("/whoami")
def whoami(operator: Viewer) -> OperatorAnswer:
    """Whose token this is."""
    return OperatorAnswer.of(operator)


@router.get("/operators")
def list_operators(services: Services, _: Admin) -> tuple[OperatorAnswer, ...]:
    """All operators, the revoked ones too, by name."""
    with services.store.read() as tx:
        return tuple(OperatorAnswer.of(one) for one in actions.list_operators(tx))


@router.post("/operators", status_code=201)
def create_operator(services: Services, admin: Admin, wish: NewOperator) -> MadeOperator:
    """A new operator."""
    role = actions.parse_role(wish.role)
    with services.store.begin() as tx:
        made, token = actions.create(tx, wish.name, role, admin.name, services.now())
    return MadeOperator(OperatorAnswer.of(made), token)


@router.post("/operators/{name}/revoke")
def revoke_operator(services: Services, admin: Admin, name: str) -> OperatorAnswer:
    """The operator's token serves no more."""
    with services.store.begin() as tx:
        return OperatorAnswer.of(actions.revoke(tx, name, admin.name, services.now()))
