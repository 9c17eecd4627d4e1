"""What devices showed while they ran a version: the material of gates. Frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.rollout.policy import Metric


@dataclass(frozen=True, slots=True)
class Sample:
    """One device, over the time that counts.

    Attributes:
        inferences: that it was asked for in that time.
        values: by metric, as the device told; what it did not tell is not there.
    """

    device: str
    inferences: int
    values: Mapping[Metric, float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A stage's devices with the new version, and the control group's with what it runs."""

    stage: tuple[Sample, ...] = ()
    control: tuple[Sample, ...] = ()
