from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.monitor.finding import Verdict
from agent.monitor.observer import Observer
from agent.monitor.reference import Kind, Policy, Reference, read_reference
from agent.monitor.thresholds import SIZES
from agent.monitor.verdict import judge
from controller.errors import BadReference
from controller.monitor.registration import build_reference, notes
from protos.manifest import Semantic, Tensor
from simulations.demo import digits

X = Tensor(name="x", dtype="FP32", shape=(-1, 2), semantic=Semantic.NUMERIC)
P = Tensor(name="p", dtype="FP32", shape=(-1, 3), semantic=Semantic.PROBABILITY)
LABEL = Tensor(name="label", dtype="INT64", shape=(-1,), semantic=Semantic.LABEL)
IMAGE = Tensor(name="image", dtype="FP32", shape=(-1, 8, 8), semantic=Semantic.IMAGE)
WINDOWS = 100


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def normal(rows: int = 400) -> NDArray[np.float32]:
    return rng().normal(size=(rows, 2)).astype(np.float32)


def probabilities(rows: int = 400) -> NDArray[np.float32]:
    return rng().dirichlet([1, 1, 1], rows).astype(np.float32)


def test_the_same_data_and_seed_give_the_same_profile() -> None:
    made = [
        build_reference((X,), (P,), {"x": normal()}, {"p": probabilities()}, rng())
        for _ in range(2)
    ]

    assert made[0].digest == made[1].digest
    assert read_reference(made[0].encode()) == made[0]


def test_series_are_named_for_what_they_watch() -> None:
    outputs: dict[str, NDArray[Any]] = {"p": probabilities(), "label": np.arange(400) % 3}

    without = build_reference((X,), (P,), {"x": normal()}, outputs, rng())
    labelled = build_reference((X,), (P, LABEL), {"x": normal()}, outputs, rng())

    names = [series.name for series in without.series]
    assert names == ["x[0]", "x[1]", "p.confidence", "p.top"]
    names = [series.name for series in labelled.series]
    assert names == ["x[0]", "x[1]", "p.confidence", "label"]
    assert labelled.series[3].categories == (0.0, 1.0, 2.0)


def test_few_distinct_numbers_are_counted_by_value_and_many_in_quantile_bins() -> None:
    x = normal(1000)
    x[:, 1] = np.arange(1000) % 7

    reference = build_reference((X,), (), {"x": x}, {}, rng())

    bins, discrete = reference.series
    assert (bins.kind, len(bins.edges)) == (Kind.NUMERIC, 33)
    assert max(bins.counts) <= 33
    assert (discrete.kind, discrete.categories) == (Kind.CATEGORICAL, tuple(map(float, range(7))))


def test_ties_make_fewer_bins_and_lose_no_row() -> None:
    x = normal(1000)
    x[: 1000 // 2, 0] = 0.0

    reference = build_reference((X,), (), {"x": x}, {}, rng())

    tied = reference.series[0]
    assert 10 < len(tied.edges) < 33
    assert sum(tied.counts) == 1000


def test_opaque_tensors_and_those_without_a_fixed_shape_are_not_watched() -> None:
    opaque = Tensor(name="o", dtype="FP32", shape=(-1, 9), semantic=Semantic.OPAQUE)
    ragged = Tensor(name="r", dtype="FP32", shape=(-1, -1), semantic=Semantic.NUMERIC)

    reference = build_reference((X, opaque, ragged), (), {"x": normal()}, {}, rng())

    assert [source.tensor for source in reference.sources] == ["x"]


def test_a_model_that_takes_one_row_at_a_time_is_watched_row_by_row() -> None:
    single = Tensor(name="x", dtype="FP32", shape=(1, 2), semantic=Semantic.NUMERIC)
    reference = build_reference((single,), (), {"x": normal()}, {}, rng())
    observer = Observer(reference)

    for row in normal(60):
        observer.observe({"x": row[None]}, {})

    assert observer.drain().rows == 60


@pytest.mark.parametrize(
    ("tensor", "array", "named"),
    [
        (X, None, "'x'.*no array"),
        (X, np.zeros((400, 2), np.float64), "'x'.*float64.*FP32"),
        (X, np.zeros((400, 3), np.float32), r"'x'.*\[400, 3\].*\['N', 2\]"),
        (X, np.zeros((99, 2), np.float32), "'x'.*99 rows.*100"),
        (X, np.full((400, 2), np.nan, np.float32), "'x'.*not one finite"),
        (X, np.array([[np.nan, 1]] * 400, np.float32), r"'x'.*x\[0\] has no finite"),
        (IMAGE, np.full((400, 8, 8), 3, np.float32), "'image'.*every pixel is 3"),
        (
            Tensor(name="t", dtype="BYTES", shape=(-1,), semantic=Semantic.CATEGORICAL),
            np.array([None] * 400, object),
            "'t'.*no text",
        ),
        (
            Tensor(name="w", dtype="FP32", shape=(-1, 600), semantic=Semantic.NUMERIC),
            np.zeros((400, 600), np.float32),
            "'w'.*600 values.*512.*opaque",
        ),
    ],
)
def test_an_array_that_can_not_serve_is_named(
    tensor: Tensor, array: NDArray[np.generic] | None, named: str
) -> None:
    arrays = {} if array is None else {tensor.name: array}

    with pytest.raises(BadReference, match=named):
        build_reference((tensor,), (), arrays, {}, rng())


def test_arrays_of_different_lengths_are_named() -> None:
    with pytest.raises(BadReference, match=r"output 'p'.*300 rows.*400"):
        build_reference((X,), (P,), {"x": normal()}, {"p": probabilities(300)}, rng())


def test_more_series_than_are_watched_are_refused_by_the_tensor_that_exceeds() -> None:
    wide = [
        Tensor(name=name, dtype="FP32", shape=(-1, 300), semantic=Semantic.NUMERIC)
        for name in ("first", "second")
    ]
    arrays = {one.name: rng().normal(size=(400, 300)).astype(np.float32) for one in wide}

    with pytest.raises(BadReference, match=r"'second'.*600; 512 at most"):
        build_reference(wide, (), arrays, {}, rng())


def test_a_model_of_which_nothing_can_be_watched_is_refused() -> None:
    opaque = Tensor(name="o", dtype="FP32", shape=(-1, 9), semantic=Semantic.OPAQUE)

    with pytest.raises(BadReference, match="no input and no output"):
        build_reference((opaque,), (), {}, {}, rng())


def test_rows_that_hang_together_in_time_widen_the_thresholds() -> None:
    steps = rng().normal(size=(2000, 2))
    slow = np.zeros((2000, 2), np.float32)
    for row in range(1, 2000):
        slow[row] = 0.95 * slow[row - 1] + steps[row]

    ordered = build_reference((X,), (), {"x": slow}, {}, rng())
    shuffled = build_reference((X,), (), {"x": slow}, {}, rng(), Policy(ordered=False))

    at = SIZES.index(300)
    assert ordered.table.evidence[at][2] > 2 * shuffled.table.evidence[at][2]
    assert ordered.dispersion > 3
    assert 0.6 < shuffled.dispersion < 1.6


def test_a_sorted_reference_is_pointed_out() -> None:
    x = normal(2000)
    sorted_by_class = x + np.repeat([0, 4], 1000)[:, None].astype(np.float32)

    (said,) = notes(build_reference((X,), (), {"x": sorted_by_class}, {}, rng()))

    assert "if they are sorted" in said
    assert notes(build_reference((X,), (), {"x": x}, {}, rng())) == []


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    return digits.load()


@pytest.fixture(scope="module")
def reference(data: digits.Digits) -> Reference:
    return build_reference((IMAGE,), (), {"image": data.train_images}, {}, rng())


@pytest.mark.parametrize("rows", [60, 300])
def test_digits_with_inverted_contrast_are_drift_and_plain_ones_are_not(
    data: digits.Digits, reference: Reference, rows: int
) -> None:
    observer = Observer(reference)
    chance = np.random.default_rng(rows)
    plain, inverted = [], []
    for _ in range(WINDOWS):
        images = data.holdout_images[chance.integers(0, len(data.holdout_images), rows)]
        observer.observe({"image": images}, {})
        plain.append(judge(reference, observer.drain(), n_min=50))
    for _ in range(WINDOWS // 10):
        images = data.holdout_images[chance.integers(0, len(data.holdout_images), rows)]
        observer.observe({"image": digits.inverted(images)}, {})
        inverted.append(judge(reference, observer.drain(), n_min=50))

    assert sum(one.verdict is not Verdict.OK for one in plain) <= 1
    assert {one.verdict for one in inverted} == {Verdict.DRIFT}
    assert {one.findings[0].series for one in inverted} == {"image.mean"}
    assert inverted[0].findings[0].detail.startswith("mean of image rose from 0.31 to 0.")
