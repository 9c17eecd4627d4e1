"""The seven models, each small and of another kind, in PyTorch."""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch  # type: ignore[import-not-found]
from torch import nn
from torch.nn import functional  # type: ignore[import-not-found]

GRAIN: Final = 1024  # weights are whole multiples of 1/GRAIN: such files compress


class Module(nn.Module):  # type: ignore[misc]
    """PyTorch's, under one name that type checkers know."""


class InvertedResidual(Module):
    """Widen by one, a filter per channel, narrow; added to the input where shapes allow."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.adds = stride == 1 and channels == filters
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, filters, 1, bias=False),
            nn.BatchNorm2d(filters),
        )

    def forward(self, x: Any) -> Any:
        """[batch, channels, height, width] to filters, divided by the stride."""
        y = self.layers(x)
        return x + y if self.adds else y


class Transformer(Module):
    """One block over embedded tokens: four heads, pre-normalised, GELU; the mean is classified."""

    def __init__(self, width: int, longest: int = 16, words: int = 100) -> None:
        super().__init__()
        self.heads = 4
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(1, longest, width) * 0.1)
        self.first_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.second_norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 4)

    def forward(self, tokens: Any) -> Any:
        """[batch, length] of tokens to [batch, 4]."""
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.position[:, :length]
        width = x.shape[-1]
        parts = self.attention(self.first_norm(x)).reshape(
            -1, length, 3, self.heads, width // self.heads
        )
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        seen = torch.softmax(scores, -1) @ value
        x = x + self.projection(seen.transpose(1, 2).reshape(-1, length, width))
        x = x + self.narrow(functional.gelu(self.wide(self.second_norm(x))))
        return self.head(x.mean(1))


def logistic(width: int) -> Any:
    """Logistic regression of an 8x8 picture."""
    return nn.Sequential(nn.Linear(width, 10))


def perceptron(inputs: int, hidden: int) -> Any:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden // 2),
        nn.ReLU(),
        nn.Linear(hidden // 2, 10),
    )


def convolutional(side: int, filters: int) -> Any:
    """Two convolutions with pools, the first normalised."""
    return nn.Sequential(
        nn.Conv2d(1, filters, 3, padding=1),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(filters, 2 * filters, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * filters * (side // 4) ** 2, 10),
    )


def autoencoder(filters: int) -> Any:
    """A series of three sensors, narrowed and rebuilt."""
    return nn.Sequential(
        nn.Conv1d(3, filters, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(filters, filters // 2, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.ConvTranspose1d(filters // 2, filters, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose1d(filters, 3, 4, stride=2, padding=1),
    )


def mobile(filters: int) -> Any:
    """MobileNetV2 in small: a stem and two inverted residuals."""
    return nn.Sequential(
        nn.Conv2d(3, filters, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU6(),
        InvertedResidual(filters, filters + filters // 2, 2),
        InvertedResidual(filters + filters // 2, filters + filters // 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(filters + filters // 2, 10),
    )


class Kind(NamedTuple):
    """A model, and what goes into it.

    Attributes:
        make: the model, at full size or ``small``.
        shape: of one sample of its input.
        classes: how many the target has; 0 where the model is its own target.
        words: how many tokens there are; 0 where the input is real.
    """

    make: Callable[[bool], Any]
    shape: tuple[int, ...]
    classes: int = 10
    words: int = 0

    @property
    def loss(self) -> str:
        """What is minimised."""
        return "softmax_cross_entropy" if self.classes else "reconstruction"

    def loss_of(self, output: Any, x: Any, target: Any) -> Any:
        """The same in PyTorch."""
        if self.classes:
            return functional.cross_entropy(output, target)
        return functional.mse_loss(output, x)


KINDS: Final = {
    "logistic regression": Kind(lambda _: logistic(64), (64,)),
    "perceptron": Kind(lambda small: perceptron(64, 16 if small else 128), (64,)),
    "convolutional 8x8": Kind(lambda small: convolutional(8, 4 if small else 16), (1, 8, 8)),
    "convolutional 28x28": Kind(lambda small: convolutional(28, 2 if small else 16), (1, 28, 28)),
    "autoencoder": Kind(lambda small: autoencoder(6 if small else 16), (3, 64), classes=0),
    "mobile": Kind(lambda small: mobile(4 if small else 16), (3, 32, 32)),
    "transformer": Kind(
        lambda small: Transformer(8, words=20) if small else Transformer(32),
        (16,), classes=4, words=20,
    ),
}  # fmt: skip


def made(name: str, *, small: bool = False) -> Any:
    """The model for inference, with weights and statistics unlike each other's."""
    torch.manual_seed(sum(name.encode()))
    model = KINDS[name].make(small)
    state = model.state_dict()
    for key, tensor in state.items():
        if key.endswith(("running_mean", "running_var")) or tensor.dim() == 1:
            spread = torch.rand(tensor.shape)
            away = 0.5 if key.endswith(("running_var", "weight")) else -0.25
            tensor.copy_(spread * 0.5 + away)
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.copy_(torch.round(tensor * GRAIN) / GRAIN)
    return model.eval()


def batch(name: str, size: int) -> tuple[Any, Any]:
    """Input and target of as many samples; the target of an autoencoder is empty."""
    kind = KINDS[name]
    random = torch.Generator().manual_seed(sum(name.encode()))
    if kind.words:
        x = torch.randint(0, kind.words, (size, *kind.shape), generator=random)
    else:
        x = torch.randn(size, *kind.shape, generator=random)
    if not kind.classes:
        return x, torch.zeros(size, 0)
    return x, torch.randint(0, kind.classes, (size,), generator=random)
