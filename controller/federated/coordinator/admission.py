"""Whether a device's reply counts: looked at before its arrays are decoded, and afterwards.

One device can then neither stop a round nor own it. In this order:

1. size; 2. it is a message, and of this task; 3. a decline is one, with its reason; 4. one array record
and one metric record, each key once; 5. what it weighs, and that its metrics are finite; 6. the keys of
its arrays, and of each how it is encoded, its dtype, shape and length (``protos.flower.arrays``);
7. all values are finite; 8. how far it moves the parameters; 9. the same, compared with its cohort.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from statistics import median_low
from typing import Any, Final, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from agent.federated.evaluation import Evaluation, read_evaluation
from agent.federated.reply import EXAMPLES
from controller.federated.coordinator.items import check_items
from controller.federated.task import Task
from protos.errors import DocumentError
from protos.flower import message_pb2
from protos.flower.arrays import read_array

MOST_METRICS: Final = 20
METRIC_NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,64}")
"""Names are devices' own, are kept with the run, and shown."""

MOST_VALUES: Final = 10_000
MOST_CHARACTERS: Final = 300
IMPLAUSIBLE: Final = 2**31
"""No device holds so many examples: a reply that says so is refused, instead of being capped."""

FEWEST_EXAMPLES: Final = 1
"""Of an update: a mean that is weighed by next to nothing is made of rounding."""

FEWEST_TO_COMPARE: Final = 3

Whose = TypeVar("Whose")
"""A node, or a task."""

Float32s = NDArray[np.float32]
Parameters = Mapping[str, Float32s]


class Code(StrEnum):
    """Why a reply does not count."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    ANOTHER_TASK = "another-task"
    RECORDS = "records"
    METRICS = "metrics"
    WEIGHT = "weight"
    KEYS = "array-keys"
    ARRAY = "array"
    NOT_FINITE = "not-finite"
    NORM = "norm"
    NORM_OF_COHORT = "norm-of-cohort"
    STALE = "stale"
    DECLINED = "declined"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the replies of a training phase must be like.

    Attributes:
        key: of the array record.
        most_examples: what a reply weighs at most.
        norm_bound: of an update, Euclidean, over all parameters; 0 is none.
        norm_ratio: of an update to the median of its cohort; 0 is no bound.
    """

    key: str = "arrays"
    most_examples: float = 10_000
    norm_bound: float = 0.0
    norm_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """The reply counts.

    Attributes:
        weight: examples, capped.
        norm: of the update; 0 where there is none.
        metrics: its numbers, and lists of numbers.
        evaluation: of the reply to an evaluation.
    """

    weight: float
    norm: float = 0.0
    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The device did not want to, or could not."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The reply has failed the check."""

    code: str
    reason: str


Judgement = Admitted | Declined | Refused


class Unfit(Exception):
    """A check that a reply fails: its code, and what is wrong."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def judged_update(data: bytes, task: Task, terms: Terms, base: Parameters) -> Judgement:
    """Whether the reply to a training task counts; ``base`` is what the task brought."""
    try:
        message = _read(data, task)
        if message.HasField("error"):
            return _decline(message)
        arrays, metrics = _records(message, terms.key)
        weight = _weight(metrics, terms.most_examples)
        return Admitted(weight, _norm(_decoded(arrays, base), base, terms.norm_bound), metrics)
    except Unfit as unfit:
        return Refused(unfit.code, unfit.reason)


def judged_evaluation(data: bytes, task: Task) -> Judgement:
    """Whether the reply to an evaluation counts."""
    try:
        message = _read(data, task)
        if message.HasField("error"):
            return _decline(message)
        record = _metric_record(message)
        metrics = _metrics(record)
        if EXAMPLES in metrics:  # what an app of a user's own weighs it by
            _claim(metrics, least=0)
        evaluation = read_evaluation(_whole(metrics, record))
    except Unfit as unfit:
        return Refused(unfit.code, unfit.reason)
    except DocumentError as error:
        return Refused(Code.METRICS, error.detail)
    return Admitted(float(evaluation.examples), 0.0, metrics, evaluation)


def judged_metrics(data: bytes, task: Task) -> Judgement:
    """Whether a reply that has one metric record and nothing else counts."""
    try:
        message = _read(data, task)
        if message.HasField("error"):
            return _decline(message)
        return Admitted(1.0, 0.0, _metrics(_metric_record(message)))
    except Unfit as unfit:
        return Refused(unfit.code, unfit.reason)


def update_of(data: bytes, terms: Terms, base: Parameters) -> dict[str, Float32s]:
    """The parameters in a reply that was admitted, in the order of ``base``.

    Raises:
        Unfit: it is not what was admitted.
    """
    try:
        message = message_pb2.Message.FromString(data)
    except DecodeError as error:
        raise Unfit(Code.MALFORMED, "not a message") from error
    return _decoded(_records(message, terms.key)[0], base)


def outliers(
    admitted: Mapping[Whose, Admitted], ratio: float, lengths: Iterable[float] | None = None
) -> dict[Whose, Refused]:
    """Those whose update is more than ``ratio`` times as long as the median of all; 0 is no bound.

    Of two in the middle the shorter is the median: between them, half of all could make it any length.
    Updates that move nothing are not among these: else many of them would let one as long as it likes.
    ``lengths`` are those that the median is of; None for theirs. Of two, nobody can say which is out of
    the way.
    """
    if lengths is None:
        lengths = [one.norm for one in admitted.values()]
    norms = [one for one in lengths if one > 0]
    if not ratio or len(norms) < FEWEST_TO_COMPARE:
        return {}
    median = median_low(norms)
    return {
        whose: Refused(
            Code.NORM_OF_COHORT,
            f"its update is {one.norm:.3g} long, the median {median:.3g}; {ratio:g} times at most",
        )
        for whose, one in admitted.items()
        if one.norm > ratio * median
    }


def odd_ones(admitted: Mapping[int, Admitted]) -> dict[int, Refused]:
    """Nodes whose metrics are of other names or lengths than most: Flower aggregates one kind only."""
    kinds = {
        node: tuple(
            sorted(
                (name, len(value) if isinstance(value, list) else -1)
                for name, value in one.metrics.items()
            )
        )
        for node, one in admitted.items()
    }
    return _unlike(kinds, "its metrics have other names or lengths than those of most devices")


def odd_evaluations(admitted: Mapping[int, Admitted]) -> dict[int, Refused]:
    """Nodes whose counts are laid out as most are not: of so many classes, and so much to an example.

    Otherwise the first by node id would decide whose counts can be added to its own, and who claims
    to have judged a lot of one example would be the fleet.
    """
    kinds = {
        node: (
            len(told.confusion),
            len(told.confidences),
            len(told.confident_correct),
            Fraction(told.judged, told.examples),
        )
        for node, one in admitted.items()
        if (told := one.evaluation) is not None and told.examples
    }
    return _unlike(kinds, "its counts are laid out unlike those of most devices")


def _unlike(kinds: Mapping[int, Any], reason: str) -> dict[int, Refused]:
    """Nodes that are of another kind than most; of two that as many are of, the greater is usual."""
    counts = Counter(kinds.values())
    if len(counts) < 2:
        return {}
    usual = max(counts, key=lambda kind: (counts[kind], kind))
    return {node: Refused(Code.METRICS, reason) for node, kind in kinds.items() if kind != usual}


def _read(data: bytes, task: Task) -> message_pb2.Message:
    if len(data) > task.reply_bytes:
        raise Unfit(Code.TOO_LARGE, f"{len(data)} bytes; {task.reply_bytes} at most")
    try:
        check_items(data)
        message = message_pb2.Message.FromString(data)
    except DocumentError as error:
        raise Unfit(Code.MALFORMED, error.detail) from error
    except DecodeError as error:
        raise Unfit(Code.MALFORMED, "not a message") from error
    if message.metadata.reply_to_message_id != task.id:
        raise Unfit(Code.ANOTHER_TASK, "it answers another task")
    return message


def _decline(message: message_pb2.Message) -> Declined:
    """Devices write ``CODE: words``; others may write what they like."""
    code, colon, words = message.error.reason.partition(": ")
    plain = code.isascii() and code.replace("-", "").isalnum() and len(code) <= 40
    if colon and plain:
        return Declined(code, words[:MOST_CHARACTERS])
    return Declined(Code.DECLINED, message.error.reason[:MOST_CHARACTERS])


def _records(
    message: message_pb2.Message, key: str
) -> tuple[message_pb2.ArrayRecord, dict[str, float | list[float]]]:
    items = {item.WhichOneof("value"): item for item in message.content.items}
    if len(message.content.items) != 2 or set(items) != {"array_record", "metric_record"}:
        raise Unfit(Code.RECORDS, "not one array record and one metric record, and nothing else")
    if items["array_record"].key != key:
        raise Unfit(Code.RECORDS, f"its array record is not named {key!r}")
    metrics = _metrics(items["metric_record"].metric_record)
    return items["array_record"].array_record, metrics


def _metric_record(message: message_pb2.Message) -> message_pb2.MetricRecord:
    kinds = [item.WhichOneof("value") for item in message.content.items]
    if kinds != ["metric_record"]:
        raise Unfit(Code.RECORDS, "not one metric record, and nothing else")
    return message.content.items[0].metric_record


def _metrics(record: message_pb2.MetricRecord) -> dict[str, float | list[float]]:
    found: dict[str, float | list[float]] = {}
    if len(record.items) > MOST_METRICS:
        raise Unfit(Code.METRICS, f"{len(record.items)} metrics; {MOST_METRICS} at most")
    for item in record.items:
        kind = item.value.WhichOneof("value")
        if kind is None or item.key in found or not METRIC_NAME.fullmatch(item.key):
            raise Unfit(Code.METRICS, "a metric without a value, twice, or of an unfit name")
        value = getattr(item.value, kind)
        if kind.endswith("_list"):
            if len(value.vals) > MOST_VALUES:
                raise Unfit(Code.METRICS, f"{item.key!r}: more than {MOST_VALUES} values")
            found[item.key] = [float(one) for one in value.vals]
        else:
            found[item.key] = float(value)
        if not np.isfinite(found[item.key]).all():
            raise Unfit(Code.NOT_FINITE, f"metric {item.key!r} is not finite")
    return found


def _whole(
    metrics: Mapping[str, float | list[float]], record: message_pb2.MetricRecord
) -> dict[str, object]:
    """The metrics with whole numbers as such: counts are."""
    whole = {
        item.key
        for item in record.items
        if item.value.WhichOneof("value") in {"sint64", "uint64", "sint_list", "uint_list"}
    }
    return {key: (_as_whole(value) if key in whole else value) for key, value in metrics.items()}


def _as_whole(value: float | list[float]) -> object:
    return [int(one) for one in value] if isinstance(value, list) else int(value)


def _weight(metrics: Mapping[str, float | list[float]], most: float) -> float:
    return min(_claim(metrics, least=FEWEST_EXAMPLES), most)


def _claim(metrics: Mapping[str, float | list[float]], least: float) -> float:
    """How many examples the device says that it has."""
    examples = metrics.get(EXAMPLES)
    if examples is None or isinstance(examples, list):
        raise Unfit(Code.WEIGHT, f"{EXAMPLES!r} is missing, or no number")
    if not least <= examples < IMPLAUSIBLE:
        raise Unfit(Code.WEIGHT, f"{EXAMPLES!r} is {examples:g}")
    return examples


def _decoded(record: message_pb2.ArrayRecord, base: Parameters) -> dict[str, Float32s]:
    if len(record.items) > 2 * len(base):  # before anything is made of each
        raise Unfit(Code.KEYS, f"{len(record.items)} arrays; {len(base)} are wanted")
    found = {item.key: item.value for item in record.items}
    foreign = sorted(found.keys() ^ base.keys())
    if foreign or len(record.items) != len(base):
        raise Unfit(
            Code.KEYS, f"array {(foreign or ['?'])[0][:100]!r}: missing, doubled or unknown"
        )
    arrays: dict[str, Float32s] = {}
    for name, before in base.items():
        try:
            with np.errstate(all="ignore"):  # judged below
                array = read_array(found[name], before)
        except DocumentError as error:
            raise Unfit(Code.ARRAY, f"array {name!r}: {error.detail}"[:MOST_CHARACTERS]) from error
        if not np.isfinite(array).all():
            raise Unfit(Code.NOT_FINITE, f"array {name!r} holds NaN or infinity")
        arrays[name] = array
    return arrays


def _norm(after: Parameters, base: Parameters, bound: float) -> float:
    """Euclidean norm of the difference over all parameters, in float64."""
    squares = 0.0
    for name, array in after.items():
        difference = np.subtract(array, base[name], dtype=np.float64)
        squares += float(np.sum(np.square(difference, out=difference)))  # the same on any machine
    norm = math.sqrt(squares)
    if bound and norm > bound:
        raise Unfit(Code.NORM, f"its update is {norm:.3g} long; {bound:g} at most")
    return norm
