import pytest

from agent.monitor.alert import AlertState, after, read_state
from agent.monitor.finding import Finding, Judgement, Severity, Verdict
from protos.errors import DocumentError


def judged(verdict: Verdict, severity: Severity = Severity.WARNING) -> Judgement:
    finding = Finding("x", "drift", "ks", 0.2, 0.1, 1e-4, 0.2, severity, "x rose from 1 to 2")
    healthy = verdict in {Verdict.OK, Verdict.INSUFFICIENT_DATA}
    return Judgement(verdict, () if healthy else (finding,))


OK = judged(Verdict.OK)
NOTHING = judged(Verdict.INSUFFICIENT_DATA)
DRIFT = judged(Verdict.DRIFT)
URGENT = judged(Verdict.DRIFT, Severity.CRITICAL)
BAD = judged(Verdict.BAD_DATA, Severity.CRITICAL)


def told(*judgements: Judgement) -> list[Verdict | None]:
    state, said = AlertState(), []
    for one in judgements:
        state, verdict = after(read_state(state.encode()), one)
        said.append(verdict)
    return said


@pytest.mark.parametrize(
    ("judgements", "expected"),
    [
        ([OK, OK, OK], [None, None, None]),
        ([DRIFT], [None]),
        ([DRIFT, DRIFT], [None, Verdict.DRIFT]),
        ([DRIFT, OK, DRIFT], [None, None, Verdict.DRIFT]),
        ([DRIFT, OK, OK, DRIFT], [None, None, None, None]),
        ([URGENT], [Verdict.DRIFT]),
        ([URGENT, URGENT, DRIFT, DRIFT], [Verdict.DRIFT, None, None, None]),
        ([URGENT, OK], [Verdict.DRIFT, None]),
        ([URGENT, OK, OK], [Verdict.DRIFT, None, Verdict.OK]),
        ([URGENT, BAD], [Verdict.DRIFT, Verdict.BAD_DATA]),
        ([NOTHING, NOTHING], [None, None]),
        ([DRIFT, NOTHING, DRIFT], [None, None, Verdict.DRIFT]),
        ([URGENT, NOTHING, NOTHING], [Verdict.DRIFT, None, None]),
    ],
)
def test_a_change_is_told_once_and_a_warning_only_when_it_persists(
    judgements: list[Judgement], expected: list[Verdict | None]
) -> None:
    assert told(*judgements) == expected


@pytest.mark.parametrize("data", [b"{", b'{"told": "\xff"}', b"[" * 100_000])
def test_a_torn_state_is_named(data: bytes) -> None:
    with pytest.raises(DocumentError, match="alert state"):
        read_state(data)
