"""Flower's private names, all that are needed.

``test_flower_private.py`` has a test for each, which fails when Flower changes it. Public is what can be reached through ``__all__`` of ``flwr``; whatever else stands here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, cast

from flwr.app import Message, Metadata
from flwr.app.exception import AppExitException
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import ArrayRecord as ProtoArrayRecord
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore.task_identity import TaskIdentity

FlowerFailed: Final = AppExitException
"""What Flower's strategies raise when they can't aggregate."""

SERVER: Final = int(SUPERLINK_NODE_ID)
"""The id of who asks: 1."""


def identify(run: int) -> None:
    """Says once for the process whose messages it makes: ``Message()`` raises without."""
    TaskIdentity.run_id = run
    TaskIdentity.node_id = SERVER
    TaskIdentity.task_id = 1


def written(message: Message) -> bytes:
    """The message as Flower sends it."""
    return message_to_proto(message).SerializeToString(deterministic=True)


def read(data: bytes) -> Message:
    """The message that Flower has sent."""
    return message_from_proto(ProtoMessage.FromString(data))


def array_record(data: bytes) -> Any:
    """Flower's protobuf message of an array record; for tests of our own encoder."""
    return ProtoArrayRecord.FromString(data)


def name_message(message: Message, message_id: str, run: int) -> None:
    """Gives a message its id and its run, as Flower's own grids do."""
    fields = _fields(message.metadata)
    fields["_message_id"] = message_id
    fields["_run_id"] = run


def _fields(metadata: Metadata) -> dict[str, object]:
    return cast("dict[str, object]", metadata.__dict__)


@contextmanager
def results() -> Iterator[list[Result]]:
    """What every ``Strategy.start`` in it has returned: an app need not hand it to anybody.

    The method is public; that it is looked up on the class is what this depends on.
    """
    found: list[Result] = []
    start = Strategy.start

    @wraps(start)
    def recorded(*args: Any, **options: Any) -> Result:
        result = start(*args, **options)
        found.append(result)
        return result

    Strategy.start = recorded  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Strategy.start = start  # type: ignore[method-assign]
