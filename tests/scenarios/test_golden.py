"""Every scenario that comes with Muster, and what it came to when somebody last read it.

What a change of the planner or of the agent does to fleets shows as prose in the difference. Run this
file to write the transcripts anew, then read the difference.
"""

from pathlib import Path

import pytest

from simulations.fleet.scenario_file import names, read
from simulations.fleet.simulation import Simulation

GOLDEN = Path(__file__).parent / "golden"


def played(name: str) -> tuple[str, list[str]]:
    """The transcript, with what was expected at its end; and what is not as expected."""
    simulation = Simulation(read(name), seed=1)
    simulation.run()
    found = simulation.findings()
    text = simulation.transcript.text() + "".join(f"{one}\n" for one in found)
    return text, [str(one) for one in found if not one.holds]


@pytest.mark.parametrize("name", names())
def test_a_scenario_comes_out_as_it_did_and_as_it_must(name: str) -> None:
    text, wrong = played(name)

    assert wrong == []
    assert text == (GOLDEN / f"{name}.txt").read_text()


def test_no_transcript_is_of_a_scenario_that_is_no_more() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == list(names())


if __name__ == "__main__":
    for scenario in names():
        transcript, missed = played(scenario)
        (GOLDEN / f"{scenario}.txt").write_text(transcript)
        for line in missed:
            print(f"{scenario}: {line}")  # noqa: T201 - for whoever runs this
