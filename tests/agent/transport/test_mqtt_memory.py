"""What a device remembers over its links through a broker."""

from agent.transport.mqtt.memory import MOST, Memory


def test_each_number_of_a_session_is_taken_once_whichever_link_hears_it() -> None:
    memory = Memory()
    memory.begin(3)
    memory.begin(4)

    assert memory.take(3, 1)
    assert memory.take(4, 1)
    assert not memory.take(3, 1)
    assert memory.take(3, 2)


def test_a_session_that_never_was_or_was_forgotten_is_not_heard() -> None:
    memory = Memory()
    for session in range(1, MOST + 2):
        memory.begin(session)

    assert not memory.take(0, 1)
    assert not memory.take(1, 1)
    assert memory.take(2, 1)
    assert not memory.take(MOST + 2, 1)
