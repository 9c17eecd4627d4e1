import pytest

from controller.access.actions import (
    authenticate,
    create,
    list_operators,
    parse_role,
    require,
    revoke,
)
from controller.access.operator import Role
from controller.access.token import mint, token_sha256, well_formed
from controller.errors import Conflict, InvalidInput, NotAllowed, NotAuthenticated, NotFound
from simulations.memory_store import MemoryStore

NOW = 1_800_000_000.0


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_token_is_its_entropy_and_can_be_told_from_other_text() -> None:
    token = mint(bytes(range(32)))

    assert token == "muster_op_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert well_formed(token)
    assert not well_formed(token + "\n")
    assert not well_formed(token[:-1])
    with pytest.raises(ValueError, match="32 are needed"):
        mint(b"short")


def test_an_operator_is_known_by_the_token_and_the_store_keeps_only_its_hash(
    store: MemoryStore,
) -> None:
    with store.begin() as tx:
        made, token = create(tx, "ada", Role.APPROVER, "init", NOW)
        assert authenticate(tx, token) == made
        stored = tx.operators.get("ada")
        last = tx.audit.last()

    assert stored is not None
    assert stored.token_sha256 == token_sha256(token)
    assert token not in repr(stored)
    assert last is not None
    assert token not in repr(last)
    assert (last.entry.action, last.entry.detail) == ("operator.create", {"role": "approver"})


def test_two_operators_never_have_one_token(store: MemoryStore) -> None:
    with store.begin() as tx:
        _, first = create(tx, "ada", Role.ADMIN, "init", NOW)
        _, second = create(tx, "bob", Role.ADMIN, "init", NOW)

    assert first != second


@pytest.mark.parametrize("token", ["", "x", "muster_op_", "é" * 50, mint(bytes(32))])
def test_a_token_of_nobody_is_refused(store: MemoryStore, token: str) -> None:
    with store.begin() as tx, pytest.raises(NotAuthenticated):
        authenticate(tx, token)


def test_a_revoked_token_serves_no_more_and_its_name_is_not_given_again(store: MemoryStore) -> None:
    with store.begin() as tx:
        create(tx, "root", Role.ADMIN, "init", NOW)
        _, token = create(tx, "ada", Role.VIEWER, "root", NOW)
        revoke(tx, "ada", "root", NOW + 1)
        assert revoke(tx, "ada", "root", NOW + 2).revoked_at == NOW + 1
        with pytest.raises(NotAuthenticated, match="revoked"):
            authenticate(tx, token)
        with pytest.raises(Conflict, match="ada"):
            create(tx, "ada", Role.VIEWER, "root", NOW)
        assert [one.entry.action for one in tx.audit.records()].count("operator.revoke") == 1


def test_the_last_administrator_stays(store: MemoryStore) -> None:
    with store.begin() as tx:
        create(tx, "ada", Role.ADMIN, "init", NOW)
        with pytest.raises(Conflict, match="last administrator"):
            revoke(tx, "ada", "ada", NOW)
        create(tx, "bob", Role.ADMIN, "ada", NOW)
        revoke(tx, "ada", "bob", NOW)
        with pytest.raises(Conflict, match="last administrator"):
            revoke(tx, "bob", "bob", NOW)
        with pytest.raises(NotFound):
            revoke(tx, "eve", "bob", NOW)
        assert [one.name for one in list_operators(tx)] == ["ada", "bob"]


@pytest.mark.parametrize("have", list(Role))
@pytest.mark.parametrize("need", list(Role))
def test_each_role_may_do_what_the_ones_below_it_may(
    store: MemoryStore, have: Role, need: Role
) -> None:
    with store.begin() as tx:
        operator, _ = create(tx, "ada", have, "init", NOW)
    if have >= need:
        require(operator, need)
        return
    with pytest.raises(NotAllowed, match=f"needs {need.name.lower()}"):
        require(operator, need)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a\n", "x" * 64])
def test_a_name_that_may_not_stand_is_refused(store: MemoryStore, name: str) -> None:
    with store.begin() as tx, pytest.raises(InvalidInput, match="name"):
        create(tx, name, Role.VIEWER, "init", NOW)


def test_a_role_is_read_by_its_name() -> None:
    assert parse_role("approver") is Role.APPROVER
    with pytest.raises(InvalidInput, match="viewer, operator, approver, admin"):
        parse_role("root")
