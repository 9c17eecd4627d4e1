"""One way after the other is asked, until there is an answer."""

import pytest

from agent.errors import AgentError, Refused, TransportError, WrongController
from agent.transport.enrolment_ways import first_answer
from agent.transport.link import Way
from simulations.memory_link import MemoryEnrolment
from tests.contracts.enrolments import Office

SILENT, REFUSED = TransportError("nobody"), Refused("token-used", "used", "Make another.")
WRONG = WrongController("another CA")


def ways(*names: str) -> list[Way]:
    office = Office()
    enrolment = MemoryEnrolment(office.joined, office.renewed)
    return [Way(name, f"{name}.example:1", enrolment) for name in names]


async def asked(answers: dict[str, AgentError | str]) -> tuple[list[str], tuple[str, Way]]:
    heard: list[str] = []

    async def ask(way: Way) -> str:
        heard.append(way.transport)
        answer = answers[way.transport]
        if isinstance(answer, AgentError):
            raise answer
        return answer

    return heard, await first_answer(ways(*answers), ask)


@pytest.mark.parametrize(
    ("answers", "heard", "by"),
    [
        ({"grpc": "here", "mqtt": "there"}, ["grpc"], "grpc"),
        ({"grpc": SILENT, "mqtt": "there"}, ["grpc", "mqtt"], "mqtt"),
        ({"grpc": WRONG, "mqtt": "there"}, ["grpc", "mqtt"], "mqtt"),
    ],
)
async def test_the_first_that_answers_is_taken(
    answers: dict[str, AgentError | str], heard: list[str], by: str
) -> None:
    found, (reply, way) = await asked(answers)

    assert (found, way.transport, reply) == (heard, by, answers[by])


async def test_a_no_is_an_answer() -> None:
    with pytest.raises(Refused) as caught:
        await asked({"grpc": REFUSED, "mqtt": "there"})

    assert caught.value is REFUSED


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"grpc": SILENT, "mqtt": SILENT}, TransportError),
        ({"grpc": WRONG, "mqtt": SILENT}, WrongController),
        ({"grpc": SILENT, "mqtt": WRONG}, WrongController),
        ({"mqtt": SILENT}, TransportError),
        ({"mqtt": WRONG}, WrongController),
    ],
)
async def test_without_an_answer_each_way_says_why(
    answers: dict[str, AgentError | str], kind: type[AgentError]
) -> None:
    with pytest.raises(kind) as caught:
        await asked(answers)

    told = [f"over {name}, at {name}.example:1: {error}" for name, error in answers.items()]
    assert str(caught.value) == "; ".join(told)
