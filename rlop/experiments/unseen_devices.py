"""Sounds recorded by other devices: width helps a conv net on them, at a constant count as well.

Row 47: Koutini, Eghbal-zadeh, Henkel, Schlueter and Widmer, "Over-Parameterization and
Generalization in Audio Classification", arXiv:2107.08933. The abstract says that (1) scaling conv
nets in width and in depth was tested on acoustic scenes, that (2) width improves the generalization
to unseen recording devices, (3) even without more parameters.

Setting: synthetic, since the recordings are large. A scene is a spectrogram of 8 bands and 8
frames: each of 10 classes has a mean spectrum, a rhythm and a sweep, mixed at random in each
example, and noise. A device has a frequency response, a random gain and a smear into the next band.
The train part is recorded by 3 devices, the test part by 5 others. Nets: 3x3 convolution to C
channels, ReLU, and hidden 3x3 convolutions, global mean, linear head; two nets for each
architecture. Width x1, x4; x4 in 16 groups has nearly the parameters of x1 (hidden layer: the same
count); depth, in the picture: 3 hidden convolutions. Equal steps for all, at the learning rate of
two that is best on fresh examples of the train devices.

Control: the narrow net against itself, from another start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome

CLASSES = 10
SIDE = 8  # bands and frames
TRAIN_DEVICES, NEW_DEVICES = 3, 5
N = 300
N_TEST = 500
CHANNELS = 8
FACTOR = 4
NETS = 2
EPOCHS = 30
BATCH = 50
RATES = (1e-3, 3e-3)


class Net(NamedTuple):
    """An architecture."""

    width: int = CHANNELS
    hidden: int = 1  # convolutions between the first and the head
    groups: int = 1  # of the hidden ones


NETS_BY_NAME = {
    "narrow": Net(),
    "wide": Net(width=FACTOR * CHANNELS),
    "wide, equal count": Net(width=FACTOR * CHANNELS, groups=FACTOR**2),
    "deep": Net(hidden=3),
}


class Recordings(NamedTuple):
    """Spectrograms `[N, 1, 8, 8]` and their classes."""

    x: Tensor
    y: Tensor


class Data(NamedTuple):
    """Train part, and fresh examples by the train devices and by new ones."""

    train: Recordings
    seen: Recordings
    unseen: Recordings


def run(seed: int) -> Outcome:
    """Train four architectures on three devices; test them on five others."""
    data_seed, *seeds = child_seeds(seed, 1 + len(NETS_BY_NAME))
    data = recorded(data_seed)
    errors = {}
    for (name, net), net_seed in zip(NETS_BY_NAME.items(), seeds):
        errors[name] = device_errors(net, data, net_seed)

    arms = list(range(len(errors)))
    curves = {
        "seen devices": (arms, [pair[0] for pair in errors.values()]),
        "unseen devices": (arms, [pair[1] for pair in errors.values()]),
    }
    values = measures(*(errors[name][1] for name in ("narrow", "wide", "wide, equal count")))
    return Outcome(values, curves, x="net: " + ", ".join(errors), y="test error")


def control(seed: int) -> dict[str, float]:
    """Compare the narrow net with itself."""
    data_seed, first_seed, second_seed = child_seeds(seed, 3)
    data = recorded(data_seed)
    first = device_errors(NETS_BY_NAME["narrow"], data, first_seed)[1]
    second = device_errors(NETS_BY_NAME["narrow"], data, second_seed)[1]
    return measures(first, second, second)


def measures(narrow: float, wide: float, equal: float) -> dict[str, float]:
    """Name the numbers."""
    return {
        "error on unseen devices, 4 times the width / 1": wide / narrow,
        "error on unseen devices, 4 times the width at equal count / 1": equal / narrow,
    }


def recorded(seed: int) -> Data:
    """Draw classes, devices and examples."""
    generator = Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, 3, SIDE, SIDE, generator=generator)
    patterns[:, 0] = patterns[:, 0].mean(-1, keepdim=True) * SIDE**0.5  # a mean spectrum
    patterns[:, 1] = patterns[:, 1].mean(-2, keepdim=True) * SIDE**0.5  # a rhythm

    train_devices = draw_devices(TRAIN_DEVICES, generator)
    new_devices = draw_devices(NEW_DEVICES, generator)
    train = examples(N, patterns, train_devices, generator)
    seen = examples(N_TEST, patterns, train_devices, generator)
    unseen = examples(N_TEST, patterns, new_devices, generator)

    mean, deviation = train.x.mean(), train.x.std()
    parts = [Recordings((part.x - mean) / deviation, part.y) for part in (train, seen, unseen)]
    return Data(*parts)


def draw_devices(count: int, generator: Generator) -> Tensor:
    """Draw linear maps of the bands `[count, 8, 8]`: a gain for each, and a smear upwards."""
    gains = torch.randn(count, SIDE, generator=generator).mul(0.7).exp()
    smear = 0.5 * torch.rand(count, 1, 1, generator=generator)
    upwards = torch.diag(torch.ones(SIDE - 1), -1)
    return torch.diag_embed(gains) @ (torch.eye(SIDE) + smear * upwards)


def examples(n: int, patterns: Tensor, devices: Tensor, generator: Generator) -> Recordings:
    """Draw scenes and record each by one of the devices."""
    y = torch.arange(n) % CLASSES
    mix = 0.5 + torch.rand(n, 3, 1, 1, generator=generator)
    sound = (patterns[y] * mix).sum(1) + 0.8 * torch.randn(n, SIDE, SIDE, generator=generator)
    sweep = torch.randint(SIDE, (n,), generator=generator)
    frames = (torch.arange(SIDE) + sweep[:, None]) % SIDE
    sound = sound.gather(2, frames[:, None].expand(-1, SIDE, -1))  # the rhythm starts anywhere
    device = torch.randint(len(devices), (n,), generator=generator)
    return Recordings((devices[device] @ sound)[:, None], y)


def device_errors(net: Net, data: Data, seed: int) -> tuple[float, float]:
    """Train nets of one architecture at the better learning rate.

    Returns:
        Mean error on seen and on unseen devices.
    """
    candidates = []
    for rate in RATES:
        pairs = [trained_errors(net, data, rate, net_seed) for net_seed in child_seeds(seed, NETS)]
        candidates.append(torch.tensor(pairs).mean(0).tolist())
    seen, unseen = min(candidates)
    return seen, unseen


def trained_errors(net: Net, data: Data, rate: float, seed: int) -> tuple[float, float]:
    """Train one net; return its error on seen and on unseen devices."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(net)
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(EPOCHS):
        for index in torch.randperm(N, generator=generator).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(data.train.x[index]), data.train.y[index]).backward()
            optimizer.step()

    return wrong(model, data.seen), wrong(model, data.unseen)


@torch.no_grad()
def wrong(model: nn.Module, part: Recordings) -> float:
    """Return the share of wrong classes."""
    return (model(part.x).argmax(1) != part.y).float().mean().item()


def build(net: Net) -> nn.Sequential:
    """Build a conv net."""
    layers: list[nn.Module] = [nn.Conv2d(1, net.width, 3, padding=1), nn.ReLU()]
    for _ in range(net.hidden):
        layers += [nn.Conv2d(net.width, net.width, 3, padding=1, groups=net.groups), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(net.width, CLASSES)]
    return nn.Sequential(*layers, *pool)


def counts(model: nn.Sequential) -> Sequence[int]:
    """Count the weights of each layer that has some."""
    return [layer.weight.numel() for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]
