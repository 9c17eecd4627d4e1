from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import Conflict, InvalidInput, NotFound
from controller.signing import repository
from controller.signing.repository import TopLevelKeys
from controller.signing.roles import DEFAULT_LIFETIMES, Lifetimes, renewal_at, renewal_due
from protos.image import freshness, restrictions
from protos.tuf import Metadata, Targets
from tests.attacks.world import manifest, new_key

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
KEYS = [new_key().public_key for _ in range(6)]
TOP = TopLevelKeys(
    root=KEYS[:3],
    root_threshold=2,
    targets=[KEYS[3]],
    targets_threshold=1,
    snapshot=KEYS[4],
    timestamp=KEYS[5],
)


def role(*versions: int) -> Targets:
    targets = None
    for version in versions:
        data = manifest("digits", version).encode()
        targets = repository.with_version(targets, data, NOW, DEFAULT_LIFETIMES)
    assert targets is not None
    return targets


def test_the_first_root_names_every_key_and_is_consistent() -> None:
    root = repository.first_root(TOP, NOW, DEFAULT_LIFETIMES)

    assert root.consistent_snapshot
    assert root.roles["root"].threshold == 2
    assert root.expires == NOW + timedelta(days=365)
    assert repository.top_level_keys(root) == TOP
    assert root.keys.keys() == {key.keyid for key in KEYS}


def test_the_next_root_forgets_the_keys_that_no_role_has_any_more() -> None:
    root = repository.first_root(TOP, NOW, DEFAULT_LIFETIMES)
    fresh = new_key().public_key

    following = repository.next_root(root, replace(TOP, timestamp=fresh), NOW, DEFAULT_LIFETIMES)

    assert (root.version, following.version) == (1, 2)
    assert KEYS[5].keyid not in following.keys
    assert KEYS[5].keyid in root.keys


@pytest.mark.parametrize(("keys", "threshold"), [(KEYS[:2], 3), (KEYS[:2], 0), ([], 1)])
def test_a_threshold_that_cannot_be_reached_is_refused(keys: list, threshold: int) -> None:  # type: ignore[type-arg]
    targets = repository.first_targets(KEYS[:1], NOW, DEFAULT_LIFETIMES)

    with pytest.raises(InvalidInput, match="approvers of digits: threshold"):
        repository.with_delegation(targets, "digits", keys, threshold, NOW, DEFAULT_LIFETIMES)


def test_one_person_cannot_be_two_approvers() -> None:
    targets = repository.first_targets(KEYS[:1], NOW, DEFAULT_LIFETIMES)
    twin = repository.named(KEYS[1], "twin")
    twin.keyid = "ab" * 32

    for pair in ([KEYS[1], KEYS[1]], [KEYS[1], twin]):
        with pytest.raises(InvalidInput, match="twice"):
            repository.with_delegation(targets, "digits", pair, 2, NOW, DEFAULT_LIFETIMES)


def test_a_delegation_is_of_one_model_and_ends_the_search() -> None:
    targets = repository.first_targets(KEYS[:1], NOW, DEFAULT_LIFETIMES)

    after = repository.with_delegation(targets, "digits", KEYS[1:4], 2, NOW, DEFAULT_LIFETIMES)

    delegation = repository.delegation(after, "digits")
    assert delegation is not None
    assert delegation.terminating
    assert delegation.is_delegated_path("models/digits/7.json")
    assert not delegation.is_delegated_path("models/digits2/7.json")
    assert not delegation.is_delegated_path("models/digits/a/7.json")
    assert repository.delegation(targets, "digits") is None
    assert list(repository.models_of(after)) == ["digits"]


def test_replaced_approvers_are_forgotten() -> None:
    targets = repository.first_targets(KEYS[:1], NOW, DEFAULT_LIFETIMES)
    before = repository.with_delegation(targets, "digits", KEYS[1:3], 2, NOW, DEFAULT_LIFETIMES)

    after = repository.with_delegation(before, "digits", KEYS[2:4], 1, NOW, DEFAULT_LIFETIMES)

    assert after.delegations is not None
    assert after.delegations.keys.keys() == {key.keyid for key in (KEYS[0], *KEYS[2:4])}


@pytest.mark.parametrize(
    "change",
    [{"paths": ["models/*/*"]}, {"terminating": False}, {"name": "digits"}],
)
def test_a_delegation_that_is_of_no_model_is_refused(change: dict[str, object]) -> None:
    targets = repository.first_targets(KEYS[:1], NOW, DEFAULT_LIFETIMES)
    after = repository.with_delegation(targets, "digits", KEYS[1:4], 2, NOW, DEFAULT_LIFETIMES)
    assert after.delegations is not None
    assert after.delegations.roles is not None
    odd = after.delegations.roles.pop("models-digits")
    for name, value in change.items():
        setattr(odd, name, value)
    after.delegations.roles[odd.name] = odd

    with pytest.raises(InvalidInput, match="is of no model"):
        repository.models_of(after)


def test_a_version_is_listed_with_its_length_digest_and_counter() -> None:
    made = manifest("digits", 3, counter=7)

    after = repository.with_version(role(1, 2), made.encode(), NOW, DEFAULT_LIFETIMES)

    target = after.targets["models/digits/3.json"]
    assert (target.length, target.hashes) == (len(made.encode()), {"sha256": made.digest})
    assert target.custom == {"release_counter": 7}
    assert after.version == 3


def test_a_version_is_listed_once() -> None:
    with pytest.raises(Conflict, match="digits/1 is published already"):
        repository.with_version(role(1), manifest("digits", 1).encode(), NOW, DEFAULT_LIFETIMES)


def test_a_recall_takes_the_version_off_and_forbids_its_manifest() -> None:
    before = role(1, 2)

    after = repository.with_recall(before, "digits", 1, 2, NOW, DEFAULT_LIFETIMES)

    held = restrictions(after.unrecognized_fields)
    assert held.recalled == (manifest("digits", 1).digest,)
    assert held.release_floor == 2
    assert list(after.targets) == ["models/digits/2.json"]
    assert len(before.targets) == 2


def test_what_was_recalled_or_lies_below_the_floor_is_not_listed_again() -> None:
    recalled = repository.with_recall(role(1, 2), "digits", 2, 2, NOW, DEFAULT_LIFETIMES)

    with pytest.raises(Conflict, match="was recalled"):
        repository.with_version(recalled, manifest("digits", 2).encode(), NOW, DEFAULT_LIFETIMES)
    with pytest.raises(Conflict, match="under the floor 2"):
        repository.with_version(
            recalled, manifest("digits", 9, counter=1).encode(), NOW, DEFAULT_LIFETIMES
        )


def test_only_what_is_listed_can_be_recalled_and_no_floor_falls() -> None:
    recalled = repository.with_recall(role(1, 2, 3), "digits", 2, 3, NOW, DEFAULT_LIFETIMES)

    with pytest.raises(NotFound, match="digits/2 is not published"):
        repository.with_recall(recalled, "digits", 2, 0, NOW, DEFAULT_LIFETIMES)
    with pytest.raises(Conflict, match="never falls"):
        repository.with_recall(recalled, "digits", 1, 2, NOW, DEFAULT_LIFETIMES)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 8)), max_size=12))
def test_whatever_happens_recalls_and_floors_only_grow(steps: list[tuple[int, int]]) -> None:
    targets = role(*range(1, 7))
    for version, floor in steps:
        before = restrictions(targets.unrecognized_fields)
        try:
            targets = repository.with_recall(
                targets, "digits", version, floor, NOW, DEFAULT_LIFETIMES
            )
        except (Conflict, NotFound):
            continue
        after = restrictions(targets.unrecognized_fields)
        assert set(before.recalled) < set(after.recalled)
        assert after.release_floor >= max(before.release_floor, floor)


def test_the_snapshot_keeps_what_it_named_before() -> None:
    one = repository.next_snapshot(
        None, {"targets": Metadata(role(1)).to_bytes()}, NOW, DEFAULT_LIFETIMES
    )
    two = repository.next_snapshot(
        one, {"models-digits": Metadata(role(1, 2)).to_bytes()}, NOW, DEFAULT_LIFETIMES
    )

    assert {name: meta.version for name, meta in two.meta.items()} == {
        "targets.json": 1,
        "models-digits.json": 2,
    }
    assert two.meta["models-digits.json"].hashes is not None
    assert two.version == 2


def test_the_timestamp_says_when_it_was_signed() -> None:
    snapshot = Metadata(repository.next_snapshot(None, {}, NOW, DEFAULT_LIFETIMES)).to_bytes()

    timestamp = repository.next_timestamp(None, snapshot, NOW, DEFAULT_LIFETIMES)

    assert freshness(timestamp.unrecognized_fields).signed_at == NOW.timestamp()
    assert timestamp.expires == NOW + timedelta(days=1)


def test_the_first_half_of_a_lifetime_is_not_yet_time_to_sign_again() -> None:
    expires, lifetime = NOW + timedelta(days=7), Lifetimes().snapshot
    due = renewal_at(expires, lifetime)

    assert due == NOW + timedelta(days=3.5)
    assert not renewal_due(expires, lifetime, due - timedelta(seconds=1))
    assert renewal_due(expires, lifetime, due)
