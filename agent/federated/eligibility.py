"""Whether a device takes part in federated runs now: it decides that itself, and says why not.

The same question is asked twice: when the device tells that it is ready, and again when a task comes,
for much may have changed in between. What an evaluation does not cost is not asked of one.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.federated.record import EVALUATE, TRAIN
from agent.install.gates import Battery, Circumstances
from agent.install.windows import opening_words, opens, wait_words
from protos.documents import Window


class Code(StrEnum):
    """Why not: what travels to the controller, and stands in docs/federated.md."""

    NOT_TRAINABLE = "not-trainable"
    TOO_FEW_EXAMPLES = "too-few-examples"
    TOO_FEW_HELD_OUT = "too-few-held-out"
    OUTSIDE_WINDOW = "outside-window"
    METERED_LINK = "metered-link"
    ON_BATTERY = "on-battery"
    BATTERY_LOW = "battery-low"
    COOLING_OFF = "cooling-off"
    BUSY = "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the owner of the device asks for before it takes part.

    Attributes:
        examples: in the training part, at least.
        held_out: at least.
        on_battery: whether it may train without mains, if charged to ``battery_percent``.
        on_metered: whether parameters and updates may go over a link that costs by the byte.
        most_busy: the share of the time of its inference threads that requests may take.
        cooling_off_seconds: from the end of a training to the next.
        windows: when it may; always if there is none.
    """

    examples: int = 1
    held_out: int = 0
    on_battery: bool = False
    battery_percent: float = 0.0
    on_metered: bool = False
    most_busy: float = 1.0
    cooling_off_seconds: float = 0.0
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the device is at a moment.

    Attributes:
        circumstances: its local time, battery and link.
        busy: the share of the time of its inference threads that requests have taken lately.
        rests: seconds for which it was told to take no task.
        since_trained: seconds since its last training ended; None if there was none.
    """

    circumstances: Circumstances
    busy: float = 0.0
    rests: float = 0.0
    since_trained: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What there is to learn from for one version.

    Attributes:
        trainable: it has a train step that this device runs; ``objection`` says why if it is none.
        held: in the training part; ``held_out``: kept from it.
    """

    trainable: bool
    objection: str = ""
    held: int = 0
    held_out: int = 0


@dataclass(frozen=True, slots=True)
class Objection:
    """Why not: a code, and words."""

    code: Code
    words: str


def objection_to(
    phase: str, terms: Terms, condition: Condition, ground: Ground
) -> Objection | None:
    """Why the device does not take part in that phase with that version; None if it does.

    What lasts longest speaks first.
    """
    return (
        _ground(phase, terms, ground)
        or objection_to_going_on(terms, condition)
        or (_cooling(terms, condition) if phase != EVALUATE else None)
        or _idle(terms, condition)
    )


def objection_to_going_on(terms: Terms, condition: Condition) -> Objection | None:
    """Why what was begun shall end now; None if it may go on.

    That requests come is no reason: training stands still then.
    """
    return (
        _window(terms, condition)
        or _link(terms, condition)
        or _power(terms, condition.circumstances.battery)
    )


def _ground(phase: str, terms: Terms, ground: Ground) -> Objection | None:
    if not ground.trainable:
        return Objection(Code.NOT_TRAINABLE, ground.objection or "the version has no train step")
    if phase == TRAIN and ground.held < terms.examples:
        words = f"{ground.held} examples to learn from; {terms.examples} are asked for"
        return Objection(Code.TOO_FEW_EXAMPLES, words)
    wanted = terms.held_out if phase == TRAIN else max(1, terms.held_out)
    if ground.held_out < wanted:
        words = f"{ground.held_out} examples held out; {wanted} are asked for"
        return Objection(Code.TOO_FEW_HELD_OUT, words)
    return None


def _window(terms: Terms, condition: Condition) -> Objection | None:
    opening = opens(terms.windows, condition.circumstances.now)
    if opening is None:
        return None
    return Objection(Code.OUTSIDE_WINDOW, f"its window {opening_words(opening)}")


def _link(terms: Terms, condition: Condition) -> Objection | None:
    if terms.on_metered or not condition.circumstances.metered:
        return None
    return Objection(Code.METERED_LINK, "its link costs by the byte")


def _power(terms: Terms, battery: Battery | None) -> Objection | None:
    if battery is None or battery.on_mains:
        return None
    if not terms.on_battery:
        return Objection(Code.ON_BATTERY, "it is not on mains")
    if battery.percent < terms.battery_percent:
        words = f"charged to {battery.percent:.0f} %; {terms.battery_percent:.0f} % is asked for"
        return Objection(Code.BATTERY_LOW, words)
    return None


def _cooling(terms: Terms, condition: Condition) -> Objection | None:
    left = condition.rests
    if condition.since_trained is not None:
        left = max(left, terms.cooling_off_seconds - condition.since_trained)
    if left <= 0:
        return None
    return Objection(
        Code.COOLING_OFF, f"it rests after its last task; it is ready {wait_words(left)}"
    )


def _idle(terms: Terms, condition: Condition) -> Objection | None:
    if condition.busy <= terms.most_busy:
        return None
    shares = f"{100 * condition.busy:.0f} %; {100 * terms.most_busy:.0f} % at most"
    return Objection(Code.BUSY, f"requests take {shares} of the time of its inference threads")


# --- How busy it is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds of inference, by version, as they stood ``at`` a moment in monotonic seconds."""

    at: float
    seconds: dict[tuple[str, int], float]


def busy_share(earlier: Load, later: Load, threads: int) -> float:
    """The share of the time of ``threads`` that inference has taken between the two, from 0 to 1.

    A version that has come counts from nothing; one that has gone, not at all.
    """
    elapsed = later.at - earlier.at
    if elapsed <= 0:
        return 0.0
    taken = sum(
        max(0.0, seconds - earlier.seconds.get(key, 0.0)) for key, seconds in later.seconds.items()
    )
    return min(1.0, taken / (elapsed * max(1, threads)))
