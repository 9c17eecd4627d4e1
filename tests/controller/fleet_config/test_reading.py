"""A file that is wrong is refused with all of it: line, key, what, and what to write."""

import pytest

from controller.fleet_config.document import MAX_BYTES
from controller.fleet_config.reading import BadFleetFile, decode, read_fleet

SMALLEST = """[fleet]
name = "f"
selector = "kind=meter"
[[models]]
name = "digits"
version = "digits/3"
"""


def refused(text: str) -> list[str]:
    with pytest.raises(BadFleetFile) as caught:
        read_fleet(text, "f.toml")
    head, *lines = caught.value.detail.split("\n")
    count = len(caught.value.problems)
    assert head == f"f.toml: {count} problem{'' if count == 1 else 's'}"
    assert caught.value.remedy
    return lines


WRONG = """control_percent = 4
[fleet]
nam = "m"
selector = "a=b or c="
[[models]]
name = "digits"
version = "digit/3"
slot = "champ"
[models.pace]
growth_after = 1.5
[budget]
silence = "3x"
unreachable = 7
[[stages]]
name = "all"
percent = 110
soak_seconds = 3
not_before = 2026-12-01T08:00:00
[[stages]]
name = "all"
percent = 20
count = 3
soak = true
on_breach = "rollback"
[[stages.gates]]
metric = "drifts"
[[stages.gates]]
metric = "drift"
[proof]
failing_below = 0.01
[[control]]
[[conditions.windows]]
start = "22:70"
duration = "4h3s"
days = [
  "mon",
  "tues",
]
[watchers]
x = 1
"""
TOLD = """
f.toml:1: control_percent: there is no such key; write `percent` under [control]
f.toml:2: [fleet] name: is missing; write it like `name = "meters"`
f.toml:3: [fleet] nam: there is no such key; did you mean `name`?
f.toml:4: [fleet] selector: selector, position 10: expected a value after '=', not the end; write it like `selector = "kind=meter and site in (berlin, munich)"`
      a=b or c=
               ^
f.toml:7: [[models]] version: is of another model than `name`, which is 'digits'; make them agree
f.toml:8: [[models]] slot: "champ" is none of champion, challenger; did you mean "champion"?
f.toml:10: [models.pace] growth_after: must be a whole number, and is 1.5; write it like `growth_after = 0`
f.toml:12: [budget] silence: must be seconds, or text such as 30m, 24h, 7d or 1h30m, and is "3x"; write it like `silence = "1d"`
f.toml:13: [budget] unreachable: must be at most 1, and is 7; write it like `unreachable = 0.1`
f.toml:16: [[stages]] percent: must be at most 100, and is 110; write it like `percent = 10`
f.toml:17: [[stages]] soak_seconds: there is no such key; did you mean `soak`?
f.toml:18: [[stages]] not_before: must be a date and time with its offset, such as +01:00 or Z, and is a date or time; write it like `not_before = 2027-01-11T09:00:00+01:00`
f.toml:22: [[stages]] count: percent and count can't both be; keep one of them
f.toml:23: [[stages]] soak: must be seconds, or text such as 30m, 24h, 7d or 1h30m, and is true; write it like `soak = "30m"`
f.toml:24: [[stages]] on_breach: "rollback" is none of pause, rollback-stage, rollback-all; choose one of them
f.toml:26: [[stages.gates]] metric: "drifts" is none of error-rate, latency-p99, data-quality, drift, confidence, estimated-accuracy; did you mean "drift"?
f.toml:27: [[stages.gates]]: is held to nothing; give it margin, margin_ratio or limit
f.toml:30: [proof] failing_below: must be above budget.failed, which is 0.02, or a version that just keeps the budget could never pass
f.toml:31: [control]: must be a table, and is a list; write [control], once
f.toml:33: [[conditions.windows]] start: "22:70" can't stand here; write it like `start = "22:30"`
f.toml:34: [[conditions.windows]] duration: must be whole minutes; write it like `duration = "4h"`
f.toml:37: [[conditions.windows]] days: "tues" is none of mon, tue, wed, thu, fri, sat, sun; did you mean "tue"?
f.toml:39: [watchers]: there is no such table; the keys here are fleet, models, monitors, alerts, retraining, stages, control, pace, budget, proof, gates, expressions, conditions
"""  # fmt: skip


def test_everything_is_told_at_once_by_line() -> None:
    assert refused(WRONG) == TOLD.strip("\n").split("\n")


TWO_ALERTS = """[[alerts]]
name = "x"
model = "digits"
when = "stage.drift > 0"
[[alerts]]
name = "x"
model = "other"
when = "fleet.drift > 0"
over = 5
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            '[[stages]]\nname = "a"\npercent = 50\n[[stages]]\nname = "a"\npercent = 20\n',
            (
                "f.toml:11: [[stages]] name: two stages bear the name 'a'",
                "f.toml:12: [[stages]] percent: counts the stages before it",
                "f.toml:12: [[stages]] percent: devices would be left out",
            ),
        ),
        # What follows from another mistake is not told.
        (
            "[budget]\nfailed = 7\n[proof]\nfailing_below = 0.01\n",
            ("f.toml:8: [budget] failed: must be at most 1",),
        ),
        # What is written decides the line, even where what is wrong is only a default.
        ("[budget]\nfailed = 0.5\n", ("f.toml:8: [proof] failing_below: must be above",)),
        (
            "[models.budget]\nfailed = 0.5\n[[models]]\nname = 'o'\nversion = 'o/1'\n",
            ("f.toml:8: [proof] failing_below: must be above",),
        ),
        (
            '[[models.stages]]\nname = "a"\npercent = 50\n[[stages]]\nname = "b"\npercent = 100\n',
            ("f.toml:9: [[models.stages]] percent: devices would be left out",),
        ),
        (
            '[[models]]\nname = "digits"\nversion = "digits@x"\n',
            ("f.toml:7: [[models]]: 'digits' is there twice for the slot champion",),
        ),
        (
            "[[expressions]]\nname = 'x'\nholds = 'stage.drift <'\n",
            ("f.toml:9: [[expressions]] holds: expression, position 14:", "    ", "    "),
        ),
        (
            TWO_ALERTS,
            (
                "f.toml:10: [[alerts]] when: expression, position 1: no name 'stage.drift'",
                "    ",
                "    ",
                "f.toml:12: [[alerts]] name: two alerts bear the name 'x'",
                "f.toml:13: [[alerts]] model: 'other' is none of the file's models",
                "f.toml:15: [[alerts]] over: must be at least 1m, and is 5s",
            ),
        ),
        (
            "[[monitors]]\nmodel = 'digits'\n",
            ("f.toml:7: [[monitors]]: changes nothing; give it rows, window or both",),
        ),
        (
            "[[monitors]]\nmodel = 'digits'\nrows = 9\n",
            ("f.toml:9: [[monitors]] rows: must be at least 50, and is 9",),
        ),
        (
            2 * "[[monitors]]\nmodel = 'digits'\nwindow = '1h'\n",
            ("f.toml:11: [[monitors]] model: 'digits' has a monitor already",),
        ),
        (
            "[[monitors]]\nmodel = 'digits'\nwindow = '9000d'\n",
            ("f.toml:9: [[monitors]] window: must be at most 3703d16h53m20s, and is 9000d",),
        ),
        ("pace = 3\n", ("f.toml:7: [models.pace]: must be a table, and is 3",)),
        ("[stages]\nname = 'x'\n", ("f.toml:7: [[stages]]: must be a list",)),
        ("[[stages]]\nname = 'x'\n", ("f.toml:7: [[stages]]: says of no devices",)),
        ('[[stages]]\npercent = 100\n', ("f.toml:7: [[stages]] name: is missing",)),
        ('[fleet.x]\n', ("f.toml:7: [fleet.x]: there is no such table",)),
        ('["a\\nb"]\n', ('f.toml:7: ["a\\nb"]: there is no such table',)),
        ("[budget]\nfailed = nan\n", ("f.toml:8: [budget] failed: must be",)),
        (f"[budget]\nfailed = 0x{'F' * 5000}\n", ("f.toml:8: [budget] failed: must be",)),
    ],
)  # fmt: skip
def test_what_keys_say_together_has_its_line(more: str, told: tuple[str, ...]) -> None:
    lines = refused(SMALLEST + more)

    assert len(lines) == len(told), lines
    for line, begin in zip(lines, told, strict=True):
        assert line.startswith(begin)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "f.toml:1: [[models]]: is missing; write [[models]] with name and version"),
        ("a = [", "f.toml:1: at the end: Invalid value"),
        ("\na = 1\nb = = 2\n", "f.toml:3: column 5: Invalid value"),
        ("a = 1\na = 2\n", "f.toml:"),
        ("\nx = " + "[" * 5000, "f.toml:1: lists within lists"),
        ("\nx = " + "9" * 5000, "f.toml:2: a number of thousands of digits"),
        ("#" * (MAX_BYTES + 1), f"f.toml:1: {MAX_BYTES + 1} bytes; {MAX_BYTES} at most"),
        ("models = []\n[fleet]\nname='f'\nselector='all'", "f.toml:1: [[models]]: must have at"),
        ("fleet = 1\nmodels = [1]", "f.toml:1: [fleet]: must be a table, and is 1"),
        ("x = '''\n\n'''\nfleet = {name = 3}", "f.toml:4: [fleet] name: must be text"),
    ],
)
def test_whatever_is_written_is_refused_in_plain_words(text: str, told: str) -> None:
    assert any(line.startswith(told) for line in refused(text)), refused(text)


def test_bytes_that_are_no_text_are_refused_by_line() -> None:
    with pytest.raises(BadFleetFile, match=r"f\.toml:2: not UTF-8; save it as UTF-8"):
        decode(b"a = 1\nb = '\xff'\n", "f.toml")
    with pytest.raises(BadFleetFile, match="at most"):
        decode(b"#" * (MAX_BYTES + 1), "f.toml")


def test_a_hundred_problems_are_counted_and_fifty_told() -> None:
    lines = refused(SMALLEST + "".join(f"x{number} = 1\n" for number in range(100)))

    assert len(lines) == 51
    assert lines[-1] == "and 50 more"
