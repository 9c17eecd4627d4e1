import threading

import numpy as np
from numpy.typing import NDArray

from agent.monitor.observer import HELD_ROWS, Observer
from agent.monitor.reference import FIRST, NAN, OTHER
from controller.monitor.registration import build_reference
from protos.manifest import Semantic, Tensor
from tests.agent.monitor import profiles

THREADS = 4
EACH = 3000


def test_nothing_is_lost_or_counted_twice_while_threads_observe_and_drain() -> None:
    reference = profiles.reference()
    observer = Observer(reference)
    rng = np.random.default_rng(1)
    x = profiles.features(rng, EACH)
    colour = profiles.colours(rng, EACH)
    drained = []
    done = threading.Event()

    def infer() -> None:
        for at in range(EACH):
            row = x[at : at + 1]
            observer.observe(profiles.inputs(row, colour[at : at + 1]), profiles.answers(row))

    def drain() -> None:
        while not done.is_set():
            drained.append(observer.drain())

    workers = [threading.Thread(target=infer) for _ in range(THREADS)]
    drainer = threading.Thread(target=drain)
    for thread in (*workers, drainer):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    drainer.join()
    total = observer.drain()
    for counts in drained:
        total += counts

    once = Observer(reference)
    once.observe(profiles.inputs(x, colour), profiles.answers(x))
    expected = once.drain()
    assert total.rows == THREADS * EACH
    np.testing.assert_array_equal(total.cells, THREADS * expected.cells)
    np.testing.assert_array_equal(total.sums, THREADS * expected.sums)


def test_the_arrays_may_change_after_they_were_observed() -> None:
    observer = Observer(profiles.reference())
    rng = np.random.default_rng(2)
    x, colour = profiles.features(rng, 10), profiles.colours(rng, 10)
    outputs = profiles.answers(x)
    observer.observe(profiles.inputs(x, colour), outputs)
    expected = Observer(profiles.reference())
    expected.observe(profiles.inputs(x.copy(), colour.copy()), dict(outputs))
    before = expected.drain()

    x[:], colour[:] = np.nan, "violet"

    assert observer.drain() == before


def test_what_is_held_is_bounded_without_anyone_draining() -> None:
    observer = Observer(profiles.reference())
    rng = np.random.default_rng(3)
    x, colour = profiles.features(rng, 64), profiles.colours(rng, 64)

    for _ in range(100):
        observer.observe(profiles.inputs(x, colour), profiles.answers(x))

    assert sum(len(held[0]) for held in observer._held) <= HELD_ROWS * 12 + 64 * 12
    assert observer.drain().rows == 6400


def test_unknown_and_missing_texts_have_cells_of_their_own() -> None:
    observer = Observer(profiles.reference())
    x = profiles.features(np.random.default_rng(4), 4)
    colour = np.array(["red", "violet", None, "blue"], object)

    observer.observe(profiles.inputs(x, colour), profiles.answers(x))

    at = [series.name for series in profiles.reference().series].index("colour")
    cells = observer.drain().cells[at]
    assert (cells[FIRST], cells[FIRST + 2], cells[OTHER], cells[NAN]) == (1, 1, 1, 1)


def test_requests_of_other_shapes_are_left_out_and_counted_as_such() -> None:
    observer = Observer(profiles.reference())
    rng = np.random.default_rng(5)
    x, colour = profiles.features(rng, 5), profiles.colours(rng, 5)
    observer.observe(profiles.inputs(x, colour), profiles.answers(x))
    observer.observe(profiles.inputs(x[:, :2], colour), profiles.answers(x))

    counts = observer.drain()

    assert (counts.rows, observer.misfits) == (5, 1)


def images(rng: np.random.Generator, rows: int, side: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (rows, 3, side, side)).astype(np.uint8)


def test_large_images_are_thinned_the_same_way_at_registration_and_on_the_device() -> None:
    rng = np.random.default_rng(6)
    tensor = Tensor(name="photo", dtype="UINT8", shape=(-1, 3, 260, 260), semantic=Semantic.IMAGE)
    data = images(rng, 100, 260)
    reference = build_reference((tensor,), (), {"photo": data}, {}, rng)
    observer = Observer(reference)

    for at in range(0, 100, 7):
        observer.observe({"photo": data[at : at + 7]}, {})

    source = reference.sources[0]
    assert (source.stride, source.axes) == (3, "CHW")
    assert [series.name for series in reference.series] == [
        "photo.mean", "photo.std", "photo.laplacian", "photo.gradient", "photo.dark", "photo.bright",
    ]  # fmt: skip
    expected = [series.counts for series in reference.series]
    np.testing.assert_array_equal(observer.drain().cells, expected)
