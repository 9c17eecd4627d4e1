"""The signed reference profile of a bundle: what the data were like when the version was made.

A profile says how each *series* is taken from the tensors, which cells its values are counted in,
how many of the reference's rows fell in each, and which thresholds hold at which window size. It is
canonical JSON; its SHA-256 is the identity that windows carry, so counts of different cells never
merge.
"""

import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec

from protos.documents import canonical, sha256
from protos.errors import DocumentError
from protos.limits import MIB
from protos.manifest import Semantic

REFERENCE_BYTES: Final = 4 * MIB
MAX_SERIES: Final = 512
BINS: Final = 32
CATEGORIES: Final = 31

# The cells of one series. A numeric series uses BINS cells from FIRST on; a categorical one uses
# its categories' cells from FIRST on, and OTHER.
UNDER: Final = 0
FIRST: Final = 1
OTHER: Final = 32
OVER: Final = 33
NAN: Final = 34  # and null
INF: Final = 35
CELLS: Final = 36
FINITE: Final = 34
"""Cells from UNDER to OVER: values that are there and finite."""

LEVELS: Final = (0.5, 0.9, 0.99, 0.999)
"""The quantiles that a threshold table holds."""

MIN_ROWS: Final = 50
"""Nothing is ever concluded from fewer rows: the smallest window that is calibrated."""


class Take(StrEnum):
    """How series are taken from a tensor."""

    ELEMENTS = "elements"  # one series an element
    IMAGE = "image"  # statistics of the picture, and one series a pixel if it is small
    TOP = "top"  # of class probabilities: the highest, and which class has it


class Kind(StrEnum):
    """What is counted."""

    NUMERIC = "numeric"  # bins between edges
    CATEGORICAL = "categorical"  # one cell a category


Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Dimension = Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One watched tensor; its series stand after one another in the profile.

    Attributes:
        shape: of one row, without the batch axis.
        batched: whether the tensor has a batch axis; else each request is one row.
        axes: of an image: "HW", "HWC" or "CHW".
        stride: of an image: every so-manieth pixel either way is looked at.
        dark, bright: of an image: bounds of what is dark and what is saturated.
        parts: how many series it gives.
    """

    tensor: str
    side: Literal["input", "output"]
    semantic: Semantic
    dtype: str
    take: Take
    parts: Annotated[int, msgspec.Meta(ge=1, le=MAX_SERIES)]
    shape: tuple[Dimension, ...] = ()
    batched: bool = True
    axes: Literal["", "HW", "HWC", "CHW"] = ""
    stride: Dimension = 1
    dark: float = 0.0
    bright: float = 0.0


class Series(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One watched series and the reference's counts of it.

    A numeric series has bins [edge, next edge), of which the last is closed. ``categories`` are
    numbers (ascending) or texts. Values are summed as integers, so that sums merge exactly
    whatever their order: z = round((x - centre) / unit), with ``unit`` a power of two.

    Attributes:
        summary: describes a whole tensor rather than one element of it.
        lower, upper: values outside are no drift but faults; None where none is.
        counts: of the reference's rows, CELLS of them.
        sums: sum of z and of z², and least and greatest value, of the reference.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    kind: Kind
    counts: Annotated[tuple[Count, ...], msgspec.Meta(min_length=CELLS, max_length=CELLS)]
    sums: tuple[int, int, float, float] = (0, 0, 0.0, 0.0)
    edges: Annotated[tuple[float, ...], msgspec.Meta(max_length=BINS + 1)] = ()
    categories: Annotated[tuple[float | str, ...], msgspec.Meta(max_length=CATEGORIES)] = ()
    centre: float = 0.0
    unit: Positive = 1.0
    lower: float | None = None
    upper: float | None = None
    summary: bool = False


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quantiles, at LEVELS, of the strongest evidence and the largest effect in healthy windows.

    One row for each window size, ascending. See ``agent.monitor.thresholds``.
    """

    sizes: tuple[Annotated[int, msgspec.Meta(ge=1)], ...]
    evidence: tuple[tuple[float, ...], ...]
    effect: tuple[tuple[float, ...], ...]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a window closes, and what counts as a finding.

    Attributes:
        n_min: rows that a window needs to be judged.
        t_min_seconds: a window is open at least so long, however busy the model.
        t_max_seconds: and at most so long.
        cycle_seconds: windows span whole cycles of so long; 0 if the data have none.
        alpha: chance that a healthy window gives a finding.
        warning, critical: effects from which a finding is one, and an urgent one.
        ordered: the reference's rows stand in the order of time, so that neighbours are alike.
    """

    n_min: Annotated[int, msgspec.Meta(ge=MIN_ROWS, le=10_000_000)] = 300
    t_min_seconds: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    t_max_seconds: Positive = 3600.0
    cycle_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    alpha: Annotated[float, msgspec.Meta(gt=0, le=0.05)] = 1e-3
    warning: Share = 0.1
    critical: Share = 0.25
    ordered: bool = True


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reference profile.

    Attributes:
        rows: how many rows the reference has.
        dispersion: how much more averages of neighbouring rows vary than those of shuffled rows.
    """

    rows: Annotated[int, msgspec.Meta(ge=1)]
    sources: tuple[Source, ...]
    series: Annotated[tuple[Series, ...], msgspec.Meta(min_length=1, max_length=MAX_SERIES)]
    table: Table
    policy: Policy = Policy()
    dispersion: float = 1.0
    schema: Literal[1] = 1

    def encode(self) -> bytes:
        """The bytes that are hashed, signed for and shipped."""
        return canonical(self)

    @property
    def digest(self) -> str:
        """SHA-256 of ``encode()``, lowercase hex."""
        return sha256(self.encode())

    def of(self, source: Source) -> tuple[int, int]:
        """First and past-the-last index of the series that ``source`` gives."""
        start = 0
        for one in self.sources:
            if one == source:
                return start, start + one.parts
            start += one.parts
        raise KeyError(source.tensor)


_decoder = msgspec.json.Decoder(Reference)  # no two threads may be the first to use it


def read_reference(data: bytes) -> Reference:
    """The profile in ``data``.

    Raises:
        DocumentError: too large, malformed, or at odds with itself; names the field.
    """
    if len(data) > REFERENCE_BYTES:
        raise DocumentError(
            "too-large", f"a reference profile of {len(data)} bytes; {REFERENCE_BYTES} at most"
        )
    try:
        reference = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("malformed", f"reference profile: {error}") from error
    for fault in _faults(reference):
        raise DocumentError("malformed", f"reference profile: {fault}")
    if reference.encode() != data:
        raise DocumentError("malformed", "reference profile: it is not canonical JSON")
    return reference


def _faults(reference: Reference) -> Iterator[str]:
    parts = sum(source.parts for source in reference.sources)
    if parts != len(reference.series):
        yield f"`$.sources` give {parts} series, `$.series` has {len(reference.series)}"
    names = [series.name for series in reference.series]
    if len(set(names)) != len(names):
        yield "`$.series`: a name stands twice"
    for index, series in enumerate(reference.series):
        at = f"`$.series[{index}]` ({series.name})"
        yield from (f"{at}: {fault}" for fault in _series_faults(series, reference.rows))
    yield from _table_faults(reference.table)
    if reference.policy.t_min_seconds > reference.policy.t_max_seconds:
        yield "`$.policy.t_min_seconds` is above t_max_seconds"


def _series_faults(series: Series, rows: int) -> Iterator[str]:
    if sum(series.counts) != rows:
        yield f"`counts` add up to {sum(series.counts)}, not to the {rows} rows"
    yield from _cell_faults(series)
    if math.frexp(series.unit)[0] != 0.5:
        yield "`unit` is no power of two"
    if (series.lower is None) != (series.upper is None):
        yield "`lower` and `upper` go together"


def _cell_faults(series: Series) -> Iterator[str]:
    numbers = [one for one in series.categories if isinstance(one, float)]
    if series.kind is Kind.NUMERIC:
        if len(series.edges) < 2 or not _ascending(series.edges):
            yield "`edges` must be at least two finite numbers, ascending"
    elif not series.categories:
        yield "`categories` is empty"
    elif numbers and len(numbers) < len(series.categories):
        yield "`categories` are partly numbers and partly texts"
    elif not _ascending(numbers):
        yield "`categories` must ascend"
    elif len(set(series.categories)) != len(series.categories):
        yield "`categories`: one stands twice"


def _ascending(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values)) and all(low < high for low, high in pairwise(values))


def _table_faults(table: Table) -> Iterator[str]:
    if not table.sizes or list(table.sizes) != sorted(set(table.sizes)):
        yield "`$.table.sizes` must ascend"
    for name, rows in (("evidence", table.evidence), ("effect", table.effect)):
        if len(rows) != len(table.sizes):
            yield f"`$.table.{name}` has {len(rows)} rows for {len(table.sizes)} sizes"
        for row in rows:
            if len(row) != len(LEVELS) or list(row) != sorted(row):
                yield f"`$.table.{name}`: a row must be {len(LEVELS)} numbers, ascending"
