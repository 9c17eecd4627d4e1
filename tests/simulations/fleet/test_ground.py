"""What all devices of a simulation share."""

from hypothesis import given
from hypothesis import strategies as st

from protos.documents import Assignment, Directive, Report
from simulations.fleet.ground import envelope_size, unsigned


@given(st.integers(0, 40_000))
def test_an_envelope_need_not_be_made_to_know_its_size(length: int) -> None:
    one = Assignment(model="m" * length, version=1, target="t", sha256="s", length=2)
    directive = Directive(device="d", generation=1, issued_at=2, assignments=(one,))
    report = Report(device="d" * length, counter=1, generation=2, reported_at=3)

    assert envelope_size(directive) == len(unsigned(directive))
    assert envelope_size(report) == len(unsigned(report))
