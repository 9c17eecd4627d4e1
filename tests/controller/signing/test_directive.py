from datetime import UTC, datetime

import pytest

from controller.signing import directive
from protos.documents import Directive
from protos.envelope import peek, unseal
from protos.errors import DocumentError
from tests.attacks.world import World, manifest, new_key


def test_a_directive_names_what_the_approvers_signed_for(world: World) -> None:
    version = world.register(manifest("other", 2))
    key = new_key()
    assignments = [
        directive.assignment(version, "challenger", "r-1"),
        world.assignment("digits", 1),
    ]

    document = directive.directive("d1", 5, assignments, datetime(2030, 1, 1, tzinfo=UTC))
    opened = unseal(directive.signed(document, key), Directive, [key.public_key])

    assert opened == document
    assert [one.target for one in opened.assignments] == [
        "models/digits/1.json",
        "models/other/2.json",
    ]
    assert opened.assignments[1].sha256 == manifest("other", 2).digest
    assert opened.assignments[1].length == len(manifest("other", 2).encode())
    assert opened.issued_at == 1893456000


def test_what_is_no_envelope_of_a_directive_is_told_as_such() -> None:
    for damaged in (b"\x0a\xff", b"", b"\x0a\x02{}"):
        with pytest.raises(DocumentError) as caught:
            peek(damaged, Directive)
        assert caught.value.code == "malformed"
