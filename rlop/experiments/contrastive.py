"""Memorization in SimCLR: what it learns late, and that it learns as from random labels.

Row 46: Sadrtdinov, Chirkova and Lobacheva, "On the Memorization Properties of Contrastive
Learning", arXiv:2107.10143. The abstract says that (1) training objects and (2) augmentations
differ in how hard they are for SimCLR, and (3) that the distribution of the objects' complexity is
similar to that of training on random labels (rather than on true ones).

Setting: networks 64-256-128 on 200 digits under six random augmentations, with a head for SimCLR
(normalized outputs, NT-Xent) or for ten classes (true labels, random labels), two runs of each.
After every second epoch each object is asked again under fresh augmentations: is its view nearest
to its other view among those of all objects, or is its class right? The complexity of an object is
the number of times that the answer is wrong, divided by its mean: each training has its own clock.
An augmentation is asked alone, against the plain object. Distributions are compared by the
Kolmogorov-Smirnov distance.

Control: the runs are compared object by object after a shuffle; all six augmentations are one and
the same; another supervised training stands in for SimCLR.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.digits import CLASSES, load_digits
from rlop.experiments.fit import child_seeds, cross_entropy, network, orders, take
from rlop.experiments.outcome import Outcome
from rlop.experiments.series import rank_correlation
from rlop.optim import Adam

N = 200
RUNS = 2
HIDDEN = (256, 128)
CODE = 32
EPOCHS = 150
BATCH = 100
EVERY = 2  # epochs between two looks at the objects
RARELY = 10  # epochs between two looks at single augmentations
LR = 3e-3
TEMPERATURE = 0.2
SIDE = 8

KINDS = ("shift", "rotate", "resize", "fade", "erase", "disturb")


def augmented(x: Tensor, kinds: Collection[str], generator: Generator) -> Tensor:
    """Apply some of the augmentations to flat images, `[..., 64] -> [..., 64]`.

    Shift by up to half a pixel in each direction, rotation by up to 10 degrees, size and contrast
    changed by up to a tenth and 30 %, a twentieth of the pixels set to 0, normal noise of .05.
    """
    images = x.reshape(-1, SIDE, SIDE)
    draw = partial(uniform, len(images), generator)

    if not {"shift", "rotate", "resize"}.isdisjoint(kinds):
        shift = 0.5 if "shift" in kinds else 0.0
        angle = draw(math.pi / 18 if "rotate" in kinds else 0.0)
        scale = 1 + draw(0.1 if "resize" in kinds else 0.0)
        images = moved(images, angle, scale, draw(shift), draw(shift))
    if "fade" in kinds:
        images = images * (1 + draw(0.3))
    if "erase" in kinds:
        images = images * (torch.rand(images.shape, generator=generator) > 0.05)
    if "disturb" in kinds:
        images = images + 0.05 * torch.randn(images.shape, generator=generator)

    return images.reshape(x.shape)


def uniform(m: int, generator: Generator, size: float) -> Tensor:
    """Draw one number in [-size, size] for each image, `[M, 1, 1]`."""
    return size * (2 * torch.rand(m, 1, 1, generator=generator) - 1)


def moved(images: Tensor, angle: Tensor, scale: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Resample each image after a rotation, a change of size and a shift in pixels.

    All numbers are `[M, 1, 1]`.
    """
    cos, sin = angle.cos() / scale, angle.sin() / scale
    pixel = 2 / SIDE  # the grid runs from -1 to 1
    top = torch.cat([cos, -sin, dx * pixel], -1)
    bottom = torch.cat([sin, cos, dy * pixel], -1)
    shape = [len(images), 1, SIDE, SIDE]
    grid = F.affine_grid(torch.cat([top, bottom], 1), shape, align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


class Training(NamedTuple):
    """How often R runs were wrong over the training."""

    objects: Tensor  # times that an object was missed [R, N]
    kinds: Tensor  # times that a kind of augmentation was missed, mean of the objects [R, kinds]


def run(seed: int) -> Outcome:
    """Train on pairs of views, on true labels and on random ones; compare the complexities."""
    data_seed, label_seed, *seeds = child_seeds(seed, 5)
    data = load_digits(N, data_seed)
    random = torch.randint(CLASSES, (N,), generator=Generator().manual_seed(label_seed))

    contrastive = train(data.x, None, seeds[0])
    true_labels = train(data.x, data.y, seeds[1])
    random_labels = train(data.x, random, seeds[2])

    curves = {}
    shares = torch.linspace(0, 1, 101)
    trainings = {
        "SimCLR": contrastive,
        "true labels": true_labels,
        "random labels": random_labels,
    }
    for name, training in trainings.items():
        curves[name] = (relative(training.objects).quantile(shares).tolist(), shares.tolist())
    values = measures(contrastive.objects, contrastive.kinds, true_labels, random_labels)
    return Outcome(
        values, curves, x="complexity of an object / mean", y="share of the objects below"
    )


def control(seed: int) -> dict[str, float]:
    """Compare without the effect: shuffled objects, one augmentation, labels instead of pairs."""
    data_seed, label_seed, *seeds = child_seeds(seed, 5)
    data = load_digits(N, data_seed)
    generator = Generator().manual_seed(label_seed)
    random = torch.randint(CLASSES, (N,), generator=generator)

    one_kind = train(data.x, None, seeds[0], ["shift"] * len(KINDS))
    true_labels = train(data.x, data.y, seeds[1])
    random_labels = train(data.x, random, seeds[2])
    first, second = true_labels.objects
    shuffled = torch.stack([first, second[torch.randperm(N, generator=generator)]])
    return measures(
        shuffled, one_kind.kinds, true_labels._replace(objects=second[None]), random_labels
    )


def measures(
    objects: Tensor, kinds: Tensor, true_labels: Training, random_labels: Training
) -> dict[str, float]:
    """Name the numbers."""
    own = relative(objects[:1])
    to_random = distance(own, relative(random_labels.objects))
    to_true = distance(own, relative(true_labels.objects))
    means = kinds.mean(0)
    return {
        "rank correlation of the objects' complexity, two runs": rank_correlation(*objects),
        "rank correlation of the augmentations' complexity, two runs": rank_correlation(*kinds),
        "complexity of augmentations, largest / smallest": (means.max() / means.min()).item(),
        "distance of SimCLR to random labels / to true labels": to_random / to_true,
    }


def relative(objects: Tensor) -> Tensor:
    """Divide the complexities of each run by their mean, and pool the runs, `[R, N] -> [R N]`."""
    return (objects / objects.mean(1, keepdim=True)).flatten()


def distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two empirical distribution functions."""
    points = torch.cat([a, b])
    share_a = (a <= points[:, None]).float().mean(1)
    share_b = (b <= points[:, None]).float().mean(1)
    return (share_a - share_b).abs().max().item()


def train(x: Tensor, labels: Tensor | None, seed: int, kinds: Sequence[str] = KINDS) -> Training:
    """Train two runs, and count how often each object and each kind is missed.

    Args:
        x: flat images `[N, 64]`.
        labels: classes `[N]`; None trains SimCLR.
        seed: of starts, orders and augmentations.
        kinds: the augmentations, applied together in training.
    """
    start_seed, order_seed, view_seed = child_seeds(seed, 3)
    generator = Generator().manual_seed(view_seed)
    net = network(child_seeds(start_seed, RUNS), 64, HIDDEN, CODE if labels is None else CLASSES)
    optimizer = Adam(net.parameters(), lr=LR)
    every = x.expand(RUNS, *x.shape)

    objects = torch.zeros(RUNS, len(x))
    by_kind = torch.zeros(RUNS, len(kinds))
    for epoch, epoch_seed in enumerate(child_seeds(order_seed, EPOCHS)):
        for index in orders(RUNS, len(x), BATCH, 1, epoch_seed):
            batch = take(every, index)
            views = [augmented(batch, kinds, generator) for _ in range(2)]
            loss = (
                nt_xent(*map(net, views)) if labels is None else labeled(net, views, labels[index])
            )
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()

        if epoch % EVERY == 0:
            views = [augmented(every, kinds, generator) for _ in range(2)]
            objects += missed(net, views, labels)
        if labels is None and epoch % RARELY == 0:
            for i, kind in enumerate(kinds):
                view = augmented(every, [kind], generator)
                by_kind[:, i] += missed(net, [view, every], None).mean(1)

    return Training(objects, by_kind)


def labeled(net: nn.Module, views: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Average the cross-entropy over the views, `[R]`."""
    losses = [cross_entropy(net(view), labels) for view in views]
    return torch.stack(losses).mean(0)


def nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """Compute SimCLR's loss of every run.

    The normalized temperature-scaled cross-entropy of Chen, Kornblith, Norouzi and Hinton,
    arXiv:2002.05709: each view must find its partner among the 2 B - 1 other views.

    Args:
        a: codes of the first views `[R, B, K]`.
        b: codes of the second views, same shape.
    """
    batch = a.shape[1]
    codes = F.normalize(torch.cat([a, b], 1), dim=-1)
    itself = torch.eye(2 * batch, dtype=torch.bool)
    similarity = (codes @ codes.mT / TEMPERATURE).masked_fill(itself, -torch.inf)
    partner = torch.arange(2 * batch).roll(batch).expand(len(a), -1)
    return cross_entropy(similarity, partner)


@torch.no_grad()
def missed(net: nn.Module, views: Sequence[Tensor], labels: Tensor | None) -> Tensor:
    """Return the share of wrong answers for each object, `[R, N]`, 0, .5 or 1."""
    codes = [net(view) for view in views]
    if labels is not None:
        wrong = [code.argmax(-1) != labels for code in codes]
        return torch.stack(wrong).float().mean(0)

    first, second = (F.normalize(code, dim=-1) for code in codes)
    similarity = first @ second.mT
    own = torch.arange(similarity.shape[-1])
    wrong = [similarity.argmax(-1) != own, similarity.argmax(-2) != own]
    return torch.stack(wrong).float().mean(0)
