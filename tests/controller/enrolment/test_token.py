from dataclasses import replace

import pytest

from controller.enrolment.token import (
    ENTROPY_BYTES,
    JoinToken,
    authenticate,
    check_usable,
    mint,
)
from controller.errors import InvalidInput, TokenExpired, TokenUnknown, TokenUsed

NOW = 1_772_366_400.0


def minted(labels: dict[str, str] | None = None) -> tuple[JoinToken, str]:
    return mint(bytes(range(ENTROPY_BYTES)), "ada", NOW, 600.0, labels)


def test_the_store_never_sees_the_secret() -> None:
    token, secret = minted({"site": "berlin"})

    assert secret not in repr(token)
    assert token.created_by == "ada"
    assert token.expires_at == NOW + 600
    assert token.labels == {"site": "berlin"}
    assert token.used_by == ""


def test_the_secret_has_all_of_its_entropy() -> None:
    one, other = bytearray(ENTROPY_BYTES), bytearray(ENTROPY_BYTES)
    other[-1] = 1

    assert mint(bytes(one), "a", NOW, 1.0)[1] != mint(bytes(other), "a", NOW, 1.0)[1]
    assert len(minted()[1]) == 43  # 32 bytes in base64


def test_the_right_secret_authenticates() -> None:
    token, secret = minted()

    assert authenticate(token, secret) is token


@pytest.mark.parametrize("secret", ["", "x", "\udc80", minted()[1][:-1], minted()[1] + "A"])
def test_another_secret_does_not(secret: str) -> None:
    with pytest.raises(TokenUnknown):
        authenticate(minted()[0], secret)


def test_a_token_that_is_not_there_looks_like_one_with_another_secret() -> None:
    with pytest.raises(TokenUnknown) as missing:
        authenticate(None, "")
    with pytest.raises(TokenUnknown) as wrong:
        authenticate(minted()[0], "x")

    assert str(missing.value) == str(wrong.value)


def test_a_token_serves_until_its_end() -> None:
    token, _ = minted()
    check_usable(token, NOW + 599.9)

    with pytest.raises(TokenExpired, match="2026-03-01 12:10:00 UTC"):
        check_usable(token, NOW + 600)


def test_a_used_token_says_who_used_it_and_when() -> None:
    used = replace(minted()[0], used_by="press-7", used_at=NOW + 60)

    with pytest.raises(TokenUsed, match=r"2026-03-01 12:01:00 UTC by 'press-7'"):
        check_usable(used, NOW + 10_000)


@pytest.mark.parametrize("lifetime", [0.0, -1.0, 366 * 86_400.0, float("nan")])
def test_a_lifetime_that_can_not_be_is_refused(lifetime: float) -> None:
    with pytest.raises(InvalidInput, match="lifetime"):
        mint(bytes(ENTROPY_BYTES), "ada", NOW, lifetime)


def test_a_label_that_may_not_stand_is_refused() -> None:
    with pytest.raises(InvalidInput, match="memory_bytes"):
        minted({"memory_bytes": "1"})
