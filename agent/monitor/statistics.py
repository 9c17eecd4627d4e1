"""Two-sample statistics over counts, and their distributions: numbers in, numbers out.

Everything works on whole arrays; the last axis is the cells. scipy would bring 50 MB to a device
for these few functions; the tests compare them with it.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[Any]

_TERMS: Final = 200
_TINY: Final = 1e-300
_EPSILON: Final = 1e-15
_PLACES: Final = (
    64  # looked at together: one look at 64 costs about as much as one at a single place
)
_LOOKS: Final = 9  # 64 ** 9 is beyond the digits of a float

# Lanczos coefficients, g = 7, n = 9 (Godfrey 2001): ln Γ to 15 digits for x > 0.
_LANCZOS: Final = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7,
)  # fmt: skip


def log_gamma(x: Numbers | float) -> Floats:
    """Natural logarithm of the gamma function, x >= 0.5.

    >>> round(float(log_gamma(5.0)), 9)  # ln 24
    3.17805383
    """
    x = np.asarray(x, np.float64) - 1.0
    series = np.full_like(x, _LANCZOS[0])
    for index, coefficient in enumerate(_LANCZOS[1:], 1):
        series = series + coefficient / (x + index)
    t = x + 7.5
    return np.asarray(0.5 * np.log(2 * np.pi) + (x + 0.5) * np.log(t) - t + np.log(series))


def upper_gamma(a: Numbers | float, x: Numbers | float) -> Floats:
    """The regularised upper incomplete gamma function Q(a, x), a >= 0.5, x >= 0.

    Series below a + 1, continued fraction by Lentz's method above (Numerical Recipes §6.2).

    >>> round(float(upper_gamma(1.0, 2.0)), 9)  # exp(-2)
    0.135335283
    """
    a, x = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(x, np.float64))
    shape = a.shape
    a, x = a.ravel(), x.ravel()
    with np.errstate(divide="ignore", under="ignore", invalid="ignore"):
        scale = np.where(x > 0, np.exp(a * np.log(x) - x - log_gamma(a)), 0.0)
    out = np.empty_like(x)
    low = x < a + 1
    out[low] = 1.0 - scale[low] * _gamma_series(a[low], x[low])
    out[~low] = scale[~low] * _gamma_fraction(a[~low], x[~low])
    return np.clip(out, 0.0, 1.0).reshape(shape)


def _gamma_series(a: Floats, x: Floats) -> Floats:
    term = 1.0 / a
    total = term.copy()
    for step in range(1, _TERMS * 5):
        term = term * x / (a + step)
        total += term
        if not np.any(term > total * _EPSILON):
            break
    return total


def _gamma_fraction(a: Floats, x: Floats) -> Floats:
    b = x + 1.0 - a
    c = np.full_like(b, 1.0 / _TINY)
    d = 1.0 / b
    h = d.copy()
    for step in range(1, _TERMS * 5):
        factor = -step * (step - a)
        b = b + 2.0
        d = 1.0 / _away(factor * d + b)
        c = _away(b + factor / c)
        h *= d * c
        if not np.any(np.abs(d * c - 1.0) > _EPSILON * 10):
            break
    return h


def _away(x: Floats) -> Floats:
    """``x`` kept away from zero."""
    return np.asarray(np.where(np.abs(x) < _TINY, _TINY, x))


def beta_share(a: Numbers | float, b: Numbers | float, x: Numbers | float) -> Floats:
    """The regularised incomplete beta function I_x(a, b), a and b >= 0.5, 0 <= x <= 1.

    Continued fraction by Lentz's method (Numerical Recipes §6.4).

    >>> round(float(beta_share(2.0, 3.0, 0.5)), 9)
    0.6875
    """
    a, b, x = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (a, b, x)))
    shape = a.shape
    a, b, x = a.ravel(), b.ravel(), x.ravel()
    swap = x > (a + 1) / (a + b + 2)
    a, b, x = np.where(swap, b, a), np.where(swap, a, b), np.where(swap, 1 - x, x)
    with np.errstate(divide="ignore", under="ignore", invalid="ignore"):
        front = np.exp(
            a * np.log(x) + b * np.log1p(-x) + log_gamma(a + b) - log_gamma(a) - log_gamma(b)
        )
        value = np.where(x > 0, front * _beta_fraction(a, b, x) / a, 0.0)
    return np.clip(np.where(swap, 1 - value, value), 0.0, 1.0).reshape(shape)


def _beta_fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    c = np.ones_like(x)
    d = 1.0 / _away(1.0 - (a + b) * x / (a + 1))
    h = d.copy()
    for m in range(1, _TERMS * 5):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / _away(1.0 + even * d)
        c = _away(1.0 + even / c)
        h *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _away(1.0 + odd * d)
        c = _away(1.0 + odd / c)
        h *= d * c
        if not np.any(np.abs(d * c - 1.0) > _EPSILON * 10):
            break
    return h


def kolmogorov_tail(x: Numbers | float) -> Floats:
    """P(K > x) of the Kolmogorov distribution.

    The alternating series, and its theta-transformed twin for small x (Marsaglia, Tsang, Wang 2003).

    >>> round(float(kolmogorov_tail(1.0)), 9)
    0.269999672
    """
    x = np.asarray(x, np.float64)
    big = np.maximum(x, 0.6)
    small = np.clip(x, 0.04, 0.6)
    tail = np.zeros_like(x)
    body = np.zeros_like(x)
    with np.errstate(under="ignore"):
        for k in range(1, 11):
            tail = tail + (-1) ** (k - 1) * np.exp(-2.0 * k * k * big * big)
            body = body + np.exp(-((2 * k - 1) ** 2) * np.pi**2 / (8 * small * small))
        low = 1.0 - np.sqrt(2 * np.pi) / small * body
    return np.clip(np.where(x > 0.6, 2.0 * tail, low), 0.0, 1.0)


def effective_rows(reference: Numbers | float, window: Numbers | float) -> Floats:
    """N·n / (N + n): as many rows as one sample against a known law would need."""
    reference, window = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    return np.asarray(reference * window / np.maximum(reference + window, 1.0))


def ks_distance(reference: Numbers, window: Numbers) -> Floats:
    """Largest difference of the cumulative shares of ordered cells; 0 where one side is empty.

    >>> float(ks_distance(np.array([5, 5]), np.array([9, 1])))
    0.4
    """
    return np.asarray(np.abs(_cumulative(reference) - _cumulative(window)).max(axis=-1))


def ks_tail(distance: Numbers, rows: Numbers) -> Floats:
    """p-value of a KS distance at ``rows`` effective rows: asymptotic, conservative for bins.

    With Stephens' correction for small samples (1970).
    """
    root = np.sqrt(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(root > 0, distance * (root + 0.12 + 0.11 / root), 0.0)
    return kolmogorov_tail(scaled)


def chi_square_cells(
    reference: Numbers, window: Numbers, totals: tuple[Numbers, Numbers]
) -> Floats:
    """Each cell's part of the two-sample chi-square statistic (Numerical Recipes §14.3).

    ``totals`` are both samples' sizes, of a shape that broadcasts with the cells.
    """
    large, small = (np.maximum(np.asarray(one, np.float64), 1.0) for one in totals)
    difference = np.sqrt(small / large) * reference - np.sqrt(large / small) * window
    return np.asarray(np.square(difference) / np.maximum(reference + window, 1))


def chi_square_tail(statistic: Numbers | float, freedom: Numbers | float) -> Floats:
    """P(χ² > statistic); 1 without a degree of freedom."""
    freedom = np.asarray(freedom, np.float64)
    p = upper_gamma(np.maximum(freedom, 1.0) / 2, np.asarray(statistic, np.float64) / 2)
    return np.asarray(np.where(freedom > 0, p, 1.0))


def rare_tail(reference: Numbers, window: Numbers, totals: tuple[Numbers, Numbers]) -> Floats:
    """P(at least as many rare values in the window), by the conditional test of two Poisson counts.

    Given ``reference + window`` rare values in all, how many fall in the window is binomial with
    share n / (N + n) if nothing has changed (Przyborowski & Wilenski 1940). Exact however few.

    >>> round(float(rare_tail(np.array(0), np.array(3), (np.array(900), np.array(100)))), 6)
    0.001
    """
    share = totals[1] / np.maximum(totals[0] + totals[1], 1)
    known, seen, share = np.broadcast_arrays(reference, window, share)
    p = np.ones(seen.shape)
    some = seen > 0  # nearly always nowhere
    if some.any():
        p[some] = beta_share(seen[some], known[some] + 1.0, share[some])
    return p


def psi_cells(reference: Numbers, window: Numbers, totals: tuple[Numbers, Numbers]) -> Floats:
    """Each cell's part of the population stability index; half a row stands for none."""
    p = np.maximum(reference, 0.5) / np.maximum(totals[0], 1)
    q = np.maximum(window, 0.5) / np.maximum(totals[1], 1)
    return np.asarray((q - p) * np.log(q / p))


def psi_adjusted(psi: Numbers, freedom: Numbers, totals: tuple[Numbers, Numbers]) -> Floats:
    """PSI less what it is on average without any change: (B - 1)(1/N + 1/n); not below 0."""
    expected = freedom * (1 / np.maximum(totals[0], 1) + 1 / np.maximum(totals[1], 1))
    return np.maximum(psi - expected, 0.0)


def _cumulative(cells: Numbers) -> Floats:
    sums = np.cumsum(cells, axis=-1, dtype=np.float64)
    return np.asarray(sums / np.maximum(sums[..., -1:], 1.0))


def bracket(
    rising: Callable[[Floats], Floats], level: float, high: float = 1.0
) -> tuple[float, float]:
    """Two places from 0 to ``high``, as close as can be, between which a function reaches ``level``.

    By bisection, several halvings at a time. The function takes many places at once.
    """
    low = 0.0
    for _ in range(_LOOKS):
        places = np.linspace(low, high, _PLACES + 1)
        below = int(np.count_nonzero(rising(places[1:-1]) < level))
        low, high = float(places[below]), float(places[below + 1])
    return low, high
