"""People and programs that use the controller, and what each role may do."""

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each role may do what the ones below it may."""

    VIEWER = 1  # look
    OPERATOR = 2  # register versions, start rollouts, label devices, make join tokens
    APPROVER = 3  # upload signatures
    ADMIN = 4  # models and their approvers, operators, revocation


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with a token; the store keeps its SHA-256 only."""

    name: str
    role: Role
    token_sha256: str
    created_at: float
    revoked_at: float = 0.0
