"""Which of Flower's codes a decline has: whose fault it is, as far as Flower's strategies can tell."""

from typing import Final

from agent.errors import AgentError, Refused, StoreError, Temporary
from agent.federated.errors import (
    NotEligible,
    OtherVersion,
    ParametersUnfit,
    ReplyTooLarge,
    StepRefused,
    TaskUnfit,
)
from agent.federated.reply import FlowerError

_NOT_NOW: Final = (Temporary, NotEligible, OtherVersion, StoreError, Refused)
_UNFIT: Final = (TaskUnfit, ParametersUnfit, StepRefused, ReplyTooLarge)


def flower_error(error: AgentError) -> FlowerError:
    """The code of a decline for that reason."""
    if isinstance(error, _NOT_NOW):
        return FlowerError.NODE_UNAVAILABLE
    if isinstance(error, _UNFIT):
        return FlowerError.PRECONDITION
    return FlowerError.APP_RAISED
