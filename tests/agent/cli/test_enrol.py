"""A machine becomes a device, once, or is left as it was."""

from pathlib import Path

import pytest

from tests.agent.cli.machine import Agent, Gate, configure


def test_a_machine_becomes_a_device_once(agent: Agent, gate: Gate) -> None:
    token = gate.token()
    wrapped = f"{token[:60]}\n  {token[60:]}\n"
    done = agent("enrol", "-", "--name", "cam 7", stdin=wrapped.encode())
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("this machine is device cam-7")
    assert done.out.endswith(f"next: muster-agent --home {agent.home} run\n")
    assert (agent.home / "device.key").stat().st_mode & 0o777 == 0o600

    assert "enrolled already, as 'cam-7" in agent.refused("enrol", gate.token())
    used = agent.refused("enrol", token, home=agent.home.with_name("other"))
    assert "[token-used]" in used
    anew = agent("enrol", gate.token(), "--anew", "--name", "cam-8")
    assert anew.out.startswith("this machine is device cam-8\nnext: ")


def test_it_says_why_a_device_is_called_otherwise_than_it_wished(agent: Agent, gate: Gate) -> None:
    odd = agent("enrol", gate.token(), "--name", "Cam 9")
    assert "\n  not 'Cam 9': names are lowercase letters, digits and hyphens\n" in odd.out
    taken = agent("enrol", gate.token(), "--name", "cam-9", home=agent.home.with_name("other"))
    assert taken.out.startswith("this machine is device cam-9-")
    assert "\n  not 'cam-9': a device of that name has joined before" in taken.out
    assert "add `--anew`" in agent.refused("enrol", gate.token())


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "muster-join-",
        "muster-join-AAAA",
        "ü",
        "\udcff",
        "x" * 100_000,
        "muster-join-" * 999,
    ],
)
def test_a_token_that_is_none_is_refused_and_nothing_is_made(agent: Agent, token: str) -> None:
    assert "[bad-token]" in agent.refused("enrol", token)
    given = token.encode("utf-8", "surrogateescape")
    assert "[bad-token]" in agent.refused("enrol", "-", stdin=given)
    assert not agent.home.exists()


def test_a_token_that_is_cut_off_or_too_old_is_refused(agent: Agent, gate: Gate) -> None:
    assert "cut off or altered" in agent.refused("enrol", gate.token()[:200])
    assert "[token-expired]" in agent.refused("enrol", gate.token(0.01))


def test_a_wrong_configuration_is_told_before_the_token_is_used(agent: Agent, gate: Gate) -> None:
    token = gate.token()
    configure(agent, '[device]\ntimezone = "Mars/Base"\n')
    assert "[device] timezone: there is no time zone 'Mars/Base'" in agent.refused("enrol", token)

    configure(agent, '[device]\ntimezone = "Europe/Berlin"\n')
    assert agent("enrol", token).status == 0


def test_without_an_answer_the_machine_stays_as_it_was(agent: Agent, tmp_path: Path) -> None:
    gone = Gate(tmp_path / "gone")
    token = gone.token()
    gone.close()

    assert "[transport]" in agent.refused("enrol", token)
    assert "[not-enrolled]" in agent.refused("status")
