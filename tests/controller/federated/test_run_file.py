"""Run files: strict, every mistake at once, with its line."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from controller.federated.plan import PARAMETERS, Plan, StrategyName
from controller.federated.run_file import BadRunFile, decode, read_plan
from controller.federated.task import Encoding
from controller.toml_file.duration import EXAMPLES
from controller.toml_file.schema import schema_text

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "fleet_configs" / "federated.toml"
SCHEMA = ROOT / "fleet_configs" / "federated.schema.json"
SMALLEST = '[run]\nmodel = "digits/3"\n'


def problems(text: str) -> list[str]:
    with pytest.raises(BadRunFile) as caught:
        read_plan(text, "r.toml")
    return caught.value.detail.splitlines()[1:]


def test_the_smallest_file_has_the_defaults() -> None:
    plan = read_plan(SMALLEST, "r.toml")

    assert plan == Plan.model_validate({"run": {"model": "digits/3"}})
    assert plan.update.wire is Encoding.INT8_STEP
    assert plan.strategy.parameters() == {}


def test_a_round_of_one_device_is_evaluated_by_one() -> None:
    one = "[round]\nminimum_cohort = 1\n"
    many = "[round]\nminimum_cohort = 20\n"
    three = "[evaluation]\nminimum_cohort = 3\n"

    fewest = [
        read_plan(SMALLEST + more, "r.toml").fewest_told for more in ("", one, many, one + three)
    ]

    assert fewest == [2, 1, 2, 3]


def test_the_example_says_every_key_with_its_default() -> None:
    text = EXAMPLE.read_text()

    assert read_plan(text, "federated.toml") == read_plan('[run]\nmodel = "digits/1"', "r.toml")
    uncommented = text.replace("\n# ", "\n")
    for table, field in Plan.model_fields.items():
        inner = field.annotation
        for key in getattr(inner, "model_fields", {}):
            assert f"\n{key} = " in uncommented.split(f"[{table}]")[1].split("\n[")[0], key


def test_what_to_write_instead_may_stand_there() -> None:
    bound, strategy = problems(
        f'{SMALLEST}[candidate]\nat_least = 0.9\n[strategy]\nname = "fedaverage"\n'
    )

    told = bound.partition("write it like `")[2].rstrip("`")
    assert tomllib.loads(told) == {"at_least": {"accuracy": 0.9}}
    assert strategy.endswith('did you mean "FedAvg"?')


def test_every_mistake_is_told_at_once_with_its_line() -> None:
    text = """[run]
model = "digits"
roundz = 3
[strategy]
name = "FedAvgg"
[round]
deadline = "soon"
quorum = 1.5
[trainning]
epochs = 1
"""
    names, like = ", ".join(StrategyName), 'write it like `deadline = "10m"`'

    assert problems(text) == [
        'r.toml:2: [run] model: "digits" can\'t stand here; write it like `model = "digits/3"`',
        "r.toml:3: [run] roundz: there is no such key; did you mean `rounds`?",
        f'r.toml:5: [strategy] name: "FedAvgg" is none of {names}; did you mean "FedAvg"?',
        f'r.toml:7: [round] deadline: must be {EXAMPLES}, and is "soon"; {like}',
        "r.toml:8: [round] quorum: must be at most 1, and is 1.5; write it like `quorum = 1`",
        "r.toml:9: [trainning]: there is no such table; did you mean `training`?",
    ]


def test_a_strategy_takes_its_own_parameters_only() -> None:
    text = SMALLEST + '[strategy]\nname = "FedAvgM"\nserver_momentum = 0.5\nbeta = 0.1\n'

    (only,) = problems(text)

    assert only.startswith(
        "r.toml:6: [strategy] beta: is no parameter of FedAvgM; it takes server_"
    )
    plan = read_plan(text.replace("beta = 0.1\n", ""), "r.toml")
    assert plan.strategy.parameters() == {"server_momentum": 0.5}


def test_every_strategy_has_its_parameters() -> None:
    assert set(PARAMETERS) == set(StrategyName)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[strategy]\nname = "FedProx"', "must be more than 0 with FedProx"),
        ('[strategy]\nname = "Krum"\n[round]\nmode = "buffered"', "buffered goes with FedAvg only"),
        ('[round]\nmode = "buffered"\nbuffer = 30', "more than concurrency, 20"),
        ("[candidate.at_least]\naccuracy = 0.5\n[evaluation]\nafter = false", "leaves out"),
        ("[candidate]\nmost_worse = 0.5\n[evaluation]\nbefore = false", "leaves out"),
        ("[run.more]\nx = 1", "there is no such table"),
        ('[strategy]\naverage_last = 0.1\n[round]\nmode = "buffered"', "buffered has none"),
        ('[strategy]\nname = "FedAdam"\naverage_last = 1.1', "must be at most 1"),
        ("x", "at the end"),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, said: str) -> None:
    (only,) = problems(SMALLEST + text)

    assert said in only


def test_a_file_without_a_run_says_what_is_missing() -> None:
    assert problems("") == ["r.toml:1: [run]: is missing; write [run] with model"]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadRunFile, match=r"r\.toml:2: not UTF-8"):
        decode(b"[run]\n\xff", "r.toml")
    with pytest.raises(BadRunFile, match="at most"):
        decode(b"#" * 100_000, "r.toml")


def test_the_schema_is_current_and_accepts_the_example() -> None:
    text = schema_text(Plan, "A federated run of Muster")

    assert SCHEMA.read_text() == text
    jsonschema.validate(tomllib.loads(EXAMPLE.read_text()), json.loads(text))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"run": {"model": "digits/1", "roundz": 1}}, json.loads(text))


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(Plan, "A federated run of Muster"))
