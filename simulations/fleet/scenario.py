"""What a scenario says: a fleet, versions and how they behave, what happens when, what is expected."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.rollout.policy import STAGED, Policy


@dataclass(frozen=True, slots=True)
class Share:
    """One of several kinds that devices are of; ``offset`` is its site's, in seconds from UTC."""

    name: str
    part: float
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Who:
    """Some devices: of those that ``selector`` matches all, so many, or such a part.

    Drawn at random, and always the same ones for the same seed.
    """

    selector: str
    count: int | None = None
    part: float | None = None

    def __str__(self) -> str:
        """As it is written."""
        kind = "devices" if self.selector == "all" else self.selector
        if self.count is not None:
            return f"{self.count} of {kind}"
        return f"{self.part:.4g}% of {kind}" if self.part is not None else kind


EVERYONE = Who("all")


class Effect(StrEnum):
    """What a version may do on a device."""

    FAILS_SELF_TEST = "fails-self-test"
    CRASHES_IN_SELF_TEST = "crashes-in-self-test"
    CRASHES = "crashes"  # takes the agent down while it answers requests
    SLOWS = "slows"  # answers so many times more slowly
    ERRORS = "errors"  # this share of requests fails in the runtime
    LOSES_CONFIDENCE = "loses-confidence"  # its mean confidence is so much lower
    DRIFTS = "drifts"  # this share of windows is found to have moved
    BAD_DATA = "bad-data"  # this share of windows is found to be faulty


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One effect of a version, on whom, and how long after it was committed."""

    effect: Effect
    amount: float = 0.0
    who: Who = EVERYONE
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Version:
    """A version that is published from the beginning, of so many bytes."""

    model: str
    number: int
    length: int = 2_000_000
    behaviours: tuple[Behaviour, ...] = ()

    @property
    def reference(self) -> str:
        """``digits/2``."""
        return f"{self.model}/{self.number}"


@dataclass(frozen=True, slots=True)
class Quality:
    """Of every link; times in seconds, shares from 0 to 1, speed in bytes a second."""

    delay: float = 0.1
    loss: float = 0.0
    duplication: float = 0.0
    speed: float = 1_000_000.0


class Verb(StrEnum):
    """What people do."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    RETRY = "retry"
    APPROVE = "approve"
    SHOW = "show"
    RECALL = "recall"
    LABEL = "label"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks something of the controller.

    Attributes:
        subject: a rollout's id, a version, or a label (``site=berlin``).
        how: what else was said.
    """

    verb: Verb
    subject: str
    who: Who = EVERYONE
    how: str = ""


class Kind(StrEnum):
    """What goes wrong."""

    PARTITION = "partition"
    OFFLINE = "offline"
    LOSS = "loss"
    DELAY = "delay"
    DUPLICATION = "duplication"
    POWER_CUT = "power-cut"
    DISK_FULL = "disk-full"
    CLOCK_SKEW = "clock-skew"
    SLOW = "slow"
    LIES = "lies"
    REPLAYS = "replays"
    CRASH = "crash"
    CLOCK_JUMP = "clock-jump"


class Moment(StrEnum):
    """When in its turn a controller crashes."""

    BEFORE_RECORD = "before-record"
    AFTER_RECORD = "after-record"
    AFTER_SIGNING = "after-signing"
    HALF_SENT = "half-sent"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong, for ``seconds`` or, if that is 0, for good.

    Attributes:
        amount: a share, a factor or seconds, as the kind has it.
        how: an install state, a moment of the turn, or a version.
    """

    kind: Kind
    who: Who = EVERYONE
    amount: float = 0.0
    seconds: float = 0.0
    how: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """What happens at a time, as written in a line."""

    line: int
    at: float
    text: str
    does: Ask | Fault


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be true at the end.

    Attributes:
        subject: a rollout's id or a version.
        what: a rollout's state; or what devices have done with the version.
        least, most: how many devices.
        stage: of the rollout; empty if its own state is meant.
    """

    line: int
    text: str
    subject: str
    what: str
    least: int = 0
    most: int = 1_000_000_000
    stage: str = ""


ONE_SITE: Final = (Share("main", 1.0),)
ONE_KIND: Final = (Share("pi4", 1.0),)


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    name: str
    title: str
    until: float
    devices: int = 100
    sites: tuple[Share, ...] = ONE_SITE
    hardware: tuple[Share, ...] = ONE_KIND
    requests_per_second: float = 1.0
    quality: Quality = Quality()
    versions: tuple[Version, ...] = ()
    running: str = ""
    policy: Policy = STAGED
    commands: tuple[Command, ...] = ()
    expectations: tuple[Expectation, ...] = ()
