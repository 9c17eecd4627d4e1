"""The task: two devices with digits of their own, and a model that has not seen them."""

from typing import Any, Final

import numpy as np

from simulations.demo import digits

MODEL: Final = "digits"
DEVICES: Final = 2

RUN_FILE: Final = """\
[run]
model = "{model}/1"
rounds = {rounds}
seed = 1

[round]
over_selection = 1.0

[training]
epochs = 5
batch_size = 16
learning_rate = 0.1

[update]
encoding = "{encoding}"

[evaluation]
before = false
after = false

[candidate]
registered = false
"""


def run_file(rounds: int, encoding: str = "int8") -> str:
    """All devices in each round; nothing but training."""
    return RUN_FILE.format(model=MODEL, rounds=rounds, encoding=encoding)


def examples(data: digits.Digits, device: int) -> dict[str, Any]:
    """Inverted photographs, another part for each device, with what they show."""
    images = digits.inverted(data.train_images)[device::DEVICES]
    return {"image": np.asarray(images), "y": data.train_labels[device::DEVICES]}
