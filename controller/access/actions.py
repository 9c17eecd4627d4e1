"""Who may use the controller: making, naming, checking and revoking operators."""

import dataclasses
import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from typing import Final

from controller.access.operator import Operator, Role
from controller.access.token import ENTROPY_BYTES, mint, token_sha256, well_formed
from controller.audit import Entry
from controller.errors import Conflict, InvalidInput, NotAllowed, NotAuthenticated, NotFound
from controller.store.store import Transaction

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,61}[A-Za-z0-9])?")

log = logging.getLogger(__name__)


def authenticate(tx: Transaction, token: str) -> Operator:
    """The operator that the token belongs to.

    The lookup is by the token's hash, so how long it takes says nothing of any token.

    Raises:
        NotAuthenticated: it belongs to nobody, or to somebody who was revoked.
    """
    if not well_formed(token):
        raise NotAuthenticated("this is not an operator's token")
    digest = token_sha256(token)
    operator = tx.operators.by_token(digest)
    if operator is None or not hmac.compare_digest(operator.token_sha256, digest):
        raise NotAuthenticated("this token is not known here")
    if operator.revoked_at:
        raise NotAuthenticated(f"the token of {operator.name!r} was revoked")
    return operator


def require(operator: Operator, role: Role) -> None:
    """Returns if the operator may do what ``role`` may.

    Raises:
        NotAllowed: the operator's role is lower.
    """
    if operator.role < role:
        raise NotAllowed(
            f"{operator.name!r} is {operator.role.name.lower()}; "
            f"this needs {role.name.lower()} or higher"
        )


def parse_role(text: str) -> Role:
    """``operator`` as a role.

    Raises:
        InvalidInput: there is none of that name.
    """
    try:
        return Role[text.upper()]
    except KeyError:
        names = ", ".join(role.name.lower() for role in Role)
        raise InvalidInput(f"role: {text!r} is none of {names}") from None


def create(tx: Transaction, name: str, role: Role, actor: str, now: float) -> tuple[Operator, str]:
    """A new operator, and the token, which is shown this once and kept nowhere.

    Raises:
        InvalidInput: the name may not stand.
        Conflict: there is an operator of that name, revoked or not: the audit must stay clear.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"name: {name!r} must be 1 to 63 letters, digits or ._@-")
    if tx.operators.get(name) is not None:
        raise Conflict(f"there is, or was, an operator {name!r}")
    token = mint(secrets.token_bytes(ENTROPY_BYTES))
    operator = Operator(name, role, token_sha256(token), now)
    tx.operators.put(operator)
    entry = Entry(actor, "operator.create", name, {"role": role.name.lower()})
    tx.audit.append(entry, int(now * 1000))
    log.info("operator.created name=%s role=%s by=%s", name, role.name.lower(), actor)
    return operator, token


def list_operators(tx: Transaction) -> Sequence[Operator]:
    """All of them, the revoked ones too, by name."""
    return sorted(tx.operators.all(), key=lambda one: one.name)


def revoke(tx: Transaction, name: str, actor: str, now: float) -> Operator:
    """The operator's token serves no more, from now on. Revoking twice is as revoking once.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is the last administrator.
    """
    operator = tx.operators.get(name)
    if operator is None:
        raise NotFound(f"no operator {name!r}")
    if operator.revoked_at:
        return operator
    others = [
        one
        for one in tx.operators.all()
        if one.role is Role.ADMIN and not one.revoked_at and one.name != name
    ]
    if operator.role is Role.ADMIN and not others:
        raise Conflict(f"{name!r} is the last administrator")
    revoked = dataclasses.replace(operator, revoked_at=now)
    tx.operators.put(revoked)
    tx.audit.append(Entry(actor, "operator.revoke", name), int(now * 1000))
    log.info("operator.revoked name=%s by=%s", name, actor)
    return revoked
