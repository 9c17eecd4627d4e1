import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.drift import COLUMNS, picture


@pytest.mark.parametrize(
    ("shares", "drawn"),
    [
        pytest.param([], "", id="no cells"),
        pytest.param([0.0, 0.0], "··", id="nothing seen"),
        pytest.param([0.5, 0.0, 0.25], "█·▄", id="the highest is full"),
        pytest.param([0.999, 0.001], "█▁", id="hardly any is not none"),
        pytest.param([0.1] * 32, "█" * 16, id="neighbours are added up"),
    ],
)
def test_a_picture_shows_where_values_lie(shares: list[float], drawn: str) -> None:
    assert picture(shares) == drawn


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_picture_is_narrow_and_as_high_as_can_be(shares: list[float]) -> None:
    drawn = picture(shares)

    assert len(drawn) <= 16
    assert set(drawn) <= set(COLUMNS)
    assert (COLUMNS[-1] in drawn) is (max(shares) > 0)
