from collections.abc import Sequence
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.mailbox import Waiting, kind, queued
from protos.v1 import command_pb2, common_pb2, federated_pb2


def directive(generation: int) -> bytes:
    envelope = common_pb2.Envelope(payload=str(generation).encode())
    return command_pb2.Command(directive=envelope).SerializeToString()


REFRESH = command_pb2.Command(refresh_trust=command_pb2.RefreshTrust()).SerializeToString()


def order(task: str) -> bytes:
    federated = federated_pb2.FederatedOrder()
    if task:
        federated.task.task_id = task
    return command_pb2.Command(federated=federated).SerializeToString()


COMMANDS = st.one_of(
    st.integers(0, 99).map(directive), st.just(REFRESH), st.sampled_from(["", "a", "b"]).map(order)
)


def after(commands: Sequence[bytes]) -> Waiting:
    nothing: Waiting = ()
    return reduce(queued, commands, nothing)


def test_commands_have_kinds() -> None:
    assert kind(directive(1)) == "directive"
    assert kind(REFRESH) == "refresh_trust"
    assert kind(order("a")) == kind(order("")) == "federated"
    assert kind(b"") == kind(b"\xff\xff") == ""


def test_a_newer_directive_replaces_the_older_and_stands_last() -> None:
    waiting = after([directive(1), REFRESH, directive(2)])

    assert waiting == (REFRESH, directive(2))


def test_that_nothing_is_to_be_done_replaces_a_task() -> None:
    assert after([order("a"), REFRESH, order("")]) == (REFRESH, order(""))


@settings(max_examples=100)
@given(commands=st.lists(COMMANDS, max_size=30))
def test_what_waits_is_the_newest_of_each_kind_in_order(commands: list[bytes]) -> None:
    waiting = after(commands)
    newest = {kind(command): index for index, command in enumerate(commands)}

    assert waiting == tuple(commands[index] for index in sorted(newest.values()))
