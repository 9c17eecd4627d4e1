import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import TrustDamaged
from agent.store.device_store import TrustedState
from agent.trust.floor import objection, raised
from agent.trust.state import FileSeal, Opened, close_state, mended, open_state
from protos.documents import sha256
from protos.image import Restrictions

PINNED = b'{"root": 1}'
DIGESTS = st.integers(0, 9).map(lambda number: f"{number:064x}")


def whole() -> TrustedState:
    files = {"root.json": PINNED, "timestamp.json": b'{"t": 7}', "models-a.json": b"{}"}
    seals = {name: FileSeal(3, 1_900_000_000, sha256(data)) for name, data in files.items()}
    limits = TrustedState(latest_time=1_800_000_000, floors={"a": 2}, recalled=frozenset({"a/00"}))
    return close_state(Opened(limits, sha256(PINNED), files, seals))


def test_what_was_closed_opens_again() -> None:
    opened = open_state(whole(), PINNED)

    assert opened.state.floors == {"a": 2}
    assert close_state(opened) == whole()


def test_nothing_stored_is_an_empty_trust() -> None:
    assert open_state(TrustedState(), PINNED).files == {}


def test_an_enrolment_keeps_a_whole_trust_and_ends_a_damaged_one() -> None:
    torn = TrustedState({"root.json": PINNED}, recalled=frozenset({"a/00"}))

    assert mended(whole(), PINNED) == whole()
    assert mended(TrustedState(), PINNED) == TrustedState()
    assert mended(torn, PINNED) == TrustedState()


def test_another_pinned_root_starts_anew() -> None:
    assert open_state(whole(), b"another") == Opened(TrustedState(), sha256(b"another"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_altered_byte_of_any_file_goes_unnoticed(data: st.DataObject) -> None:
    state = whole()
    name = data.draw(st.sampled_from(sorted(state.metadata)))
    content = bytearray(state.metadata[name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    torn = TrustedState(
        {**state.metadata, name: bytes(content)}, state.latest_time, state.floors, state.recalled
    )

    try:
        opened = open_state(torn, PINNED)
    except TrustDamaged:
        return
    # Only the seal's own bytes can change without a contradiction, and never what they vouch for.
    assert name == "seal.json"
    assert opened.files == open_state(state, PINNED).files or opened.files == {}


@pytest.mark.parametrize("kept", range(1, 4))
def test_no_lost_file_goes_unnoticed(kept: int) -> None:
    state = whole()
    some = dict(list(state.metadata.items())[:kept])

    with pytest.raises(TrustDamaged):
        open_state(TrustedState(some, state.latest_time, state.floors, state.recalled), PINNED)


@settings(max_examples=60, deadline=None)
@given(
    held=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.builds(Restrictions, recalled=st.tuples(DIGESTS), release_floor=st.integers(0, 5)),
        )
    )
)
def test_limits_only_grow_and_stay_with_their_model(
    held: list[tuple[str, Restrictions]],
) -> None:
    floors: dict[str, int] = {}
    recalled: frozenset[str] = frozenset()
    for model, one in held:
        after, more = raised(floors, recalled, model, one)
        assert recalled <= more
        assert all(after[name] >= floor for name, floor in floors.items())
        floors, recalled = after, more

    state = TrustedState(floors=floors, recalled=recalled)
    for model in ("a", "b"):
        own = [one for of, one in held if of == model]
        lowest = max((one.release_floor for one in own), default=0)
        forbidden = {digest for one in own for digest in one.recalled}
        for number in range(10):
            digest = f"{number:064x}"
            refusal = objection(state, model, digest, lowest)
            assert (refusal is not None) == (digest in forbidden)
        if lowest > 0:
            assert objection(state, model, "f" * 64, lowest - 1) is not None
