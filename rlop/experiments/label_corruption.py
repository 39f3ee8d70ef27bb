"""Regularizer mirror descent on corrupted labels, against SGD and against weight decay.

Row 14: Azizan, Lale and Hassibi, "Explicit Regularization via Regularizer Mirror Descent",
arXiv:2202.10788. Every train example i gets a slack z_i, and descent with the potential ||w||^2 / 2
runs on z_i = sqrt(2 L_i(w)), in the form of the official code: with the batch loss L,
s = sqrt(2 L) and the mean slack z of the batch,

    w <- w - lr (s - z) / s grad L,   z_i <- z_i + (lr / lambda) (s - z)  for every i of the batch

Claims of the abstract: on training sets that contain errors, RMD generalizes better than SGD and
than weight decay; it costs virtually no more than either.

Setting: digits, 1000 for training and 200 for validation, 40 % of the labels of both drawn at
random; two hidden layers of 128. RMD and weight decay have one objective, lambda sum L + |w|^2 / 2,
and get the same six strengths. Tuned, each takes the strength with the best accuracy on the noisy
validation labels; SGD has nothing to tune, and all share the learning rate. At equal strengths the
differences are averaged over the four weaker regularizations, lambda >= 1, and over the two
stronger ones. Accuracies are those on clean test labels, averaged over the last 30 of 120 epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import CLASSES, corrupt, load_digits
from rlop.experiments.fit import (
    accuracy,
    child_seeds,
    classification,
    cross_entropy,
    network,
    orders,
    predict,
    take,
)
from rlop.experiments.outcome import Outcome
from rlop.optim import RMD, SMD, unsigned_loss

N = 1000
N_VALIDATION = 200
CORRUPTED = 0.4
HIDDEN = (128, 128)
EPOCHS = 120
EVERY = 10  # epochs between evaluations
BATCH = 50
LR = 0.1
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # lambda of both
GRID = len(STRENGTHS)

# The cost of a step is measured at a size at which computing, not calling, takes the time.
COST_HIDDEN = (512, 512)
COST_BATCH = 128
COST_STEPS = 20
COST_ROUNDS = 5


class Arms(NamedTuple):
    """What sets the runs of one training apart."""

    decay: Tensor  # coefficient of weight decay [R]
    rate: Tensor  # 1 / lambda of RMD [R]; an arm with 0 is plain SGD, since its slack stays 0


class History(NamedTuple):
    """Accuracies of every run after every `EVERY` epochs, `[T, R]`."""

    validation: Tensor
    test: Tensor


def run(seed: int) -> Outcome:
    """Train SGD, six weight decays and six RMDs from one start; choose by validation."""
    child, cost = child_seeds(seed, 2)
    strengths = torch.tensor(STRENGTHS)
    none = torch.zeros(GRID)
    decay = torch.cat([torch.zeros(1), 1 / (N * strengths), none])
    rate = torch.cat([torch.zeros(1), none, 1 / strengths])
    history = train(Arms(decay, rate), child, [child] * len(rate))

    chosen_decay = choose(history, range(1, 1 + GRID))
    chosen_rmd = choose(history, range(1 + GRID, 1 + 2 * GRID))
    late = history.test[-3:].mean(0)
    gain = late[1 + GRID :] - late[1 : 1 + GRID]
    is_weak = strengths >= 1
    values = named(
        late[chosen_rmd] - late[0],
        late[chosen_rmd] - late[chosen_decay],
        gain[is_weak].mean(),
        gain[~is_weak].mean(),
        step_cost(cost, rmd_step),
    )

    epochs = range(EVERY, EPOCHS + 1, EVERY)
    shown = {"SGD": 0, "weight decay, tuned": chosen_decay, "RMD, tuned": chosen_rmd}
    for strength in (1.0, 30.0):
        place = STRENGTHS.index(strength)
        shown[f"weight decay, lambda {strength:g}"] = 1 + place
        shown[f"RMD, lambda {strength:g}"] = 1 + GRID + place
    curves = {name: (epochs, history.test[:, arm].tolist()) for name, arm in shown.items()}
    return Outcome(values, curves, x="epochs", y="test accuracy")


def control(seed: int) -> Mapping[str, float]:
    """Train three times plain SGD from other starts, named SGD, weight decay and RMD.

    The costly step to compare with is one that needs a second gradient.
    """
    child, cost = child_seeds(seed, 2)
    history = train(Arms(torch.zeros(3), torch.zeros(3)), child, child_seeds(child, 3))
    sgd, decay, rmd = history.test[-3:].mean(0)
    gain = rmd - decay
    return named(rmd - sgd, gain, gain, gain, step_cost(cost, two_gradients))


def named(
    over_sgd: Tensor, tuned: Tensor, weak: Tensor, strong: Tensor, cost: float
) -> dict[str, float]:
    """Name the measures."""
    return {
        "test accuracy, RMD - SGD": over_sgd.item(),
        "test accuracy, RMD - weight decay, both tuned": tuned.item(),
        "test accuracy, RMD - weight decay, equal lambda >= 1": weak.item(),
        "test accuracy, RMD - weight decay, equal lambda < 1": strong.item(),
        "time of a step, RMD / SGD": cost,
    }


def choose(history: History, arms: range) -> int:
    """Return the one of some arms with the best late accuracy on the validation labels."""
    late = history.validation[-3:].mean(0)
    return arms[int(late[arms.start : arms.stop].argmax())]


def train(arms: Arms, seed: int, starts: list[int]) -> History:
    """Train every arm on the same corrupted labels.

    Args:
        arms: R settings.
        seed: of the split, the labels and the order of the minibatches.
        starts: seeds of the R initial networks.
    """
    runs = len(starts)
    data = load_digits(N, seed)
    generator = Generator().manual_seed(seed)
    labels = corrupt(data.y, CORRUPTED, generator)
    held_out = corrupt(data.y_test[:N_VALIDATION], CORRUPTED, generator)
    x_validation, x_test = data.x_test[:N_VALIDATION], data.x_test[N_VALIDATION:]
    y_test = data.y_test[N_VALIDATION:]

    net = network(starts, 64, HIDDEN, CLASSES)
    slack = torch.zeros(runs, N)
    batches = orders(runs, N, BATCH, EPOCHS, seed)
    steps = EVERY * N // BATCH
    validation: list[Tensor] = []
    test: list[Tensor] = []

    for _ in range(EPOCHS // EVERY):
        part = [next(batches) for _ in range(steps)]
        descend(net, data.x, labels, slack, arms, part)
        validation.append(accuracy(predict(net, x_validation, runs), held_out))
        test.append(accuracy(predict(net, x_test, runs), y_test))
    return History(torch.stack(validation), torch.stack(test))


def descend(
    net: nn.Module, x: Tensor, y: Tensor, slack: Tensor, arms: Arms, batches: Iterable[Tensor]
) -> None:
    """Update all arms, one step per batch; `slack` changes in place.

    Args:
        net: outputs `[R, B, K]`.
        x: `[N, D]`.
        y: `[N]`.
        slack: z of every example `[R, N]`.
        arms: R settings.
        batches: indices `[R, B]`.
    """
    parameters = list(net.parameters())
    x = x.expand(len(slack), *x.shape)
    y = y.expand(len(slack), -1)

    for index in batches:
        loss = cross_entropy(net(take(x, index)), take(y, index))
        gradients = torch.autograd.grad(loss.sum(), parameters)
        with torch.no_grad():
            s = (2 * loss).clamp_min(1e-12).sqrt()
            gap = s - slack.gather(1, index).mean(1)
            for p, gradient in zip(parameters, gradients):
                shape = (-1, *[1] * (p.ndim - 1))  # one number per run
                step = (gap / s).view(shape) * gradient + arms.decay.view(shape) * p
                p.sub_(LR * step)
            change = (LR * arms.rate * gap)[:, None].expand_as(index)
            slack.scatter_add_(1, index, change.contiguous())


# --- the cost of a step

Step = Callable[[nn.Module, RMD, Tensor, Tensor, Tensor], None]  # (net, optimizer, index, x, y)


def step_cost(seed: int, step: Step) -> float:
    """Divide the processor time of a step by that of an SGD step on the same network.

    Both kinds take turns, and the middle of the ratios counts, since the machine may be busy.
    """
    data = load_digits(N, seed)
    (index, *_) = orders(1, N, COST_BATCH, 1, seed)
    x, y = take(data.x[None], index), take(data.y[None], index)
    net = network([seed], 64, COST_HIDDEN, CLASSES)
    plain = SMD(net.parameters(), LR)
    regularized = RMD(net.parameters(), LR, lam=3.0, form="unsigned")
    regularized.allot(N)

    ratios = []
    for _ in range(COST_ROUNDS):
        started = time.process_time()
        for _ in range(COST_STEPS):
            plain.apply(list(_gradients(net, x, y)))
        between = time.process_time()
        for _ in range(COST_STEPS):
            step(net, regularized, index, x, y)
        ratios.append((time.process_time() - between) / (between - started))
    return median(ratios)


def rmd_step(net: nn.Module, optimizer: RMD, index: Tensor, x: Tensor, y: Tensor) -> None:
    """Make one step of `rlop.optim.RMD`."""
    slack = optimizer.read(index)
    loss = unsigned_loss(classification(net, x, y), slack)
    *gradients, slope = torch.autograd.grad(loss.sum(), [*net.parameters(), slack])
    optimizer.apply(gradients)
    optimizer.relax(index, slope)


def two_gradients(net: nn.Module, optimizer: RMD, index: Tensor, x: Tensor, y: Tensor) -> None:
    """Compute the gradient twice, as a method would that needs it at a second point."""
    _gradients(net, x, y)
    optimizer.apply(list(_gradients(net, x, y)))


def _gradients(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of the cross-entropy."""
    return torch.autograd.grad(classification(net, x, y).sum(), list(net.parameters()))
