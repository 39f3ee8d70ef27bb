"""What of pruning improves generalization: each of its choices alone, against the whole algorithm.

Row 9: Jin, Dziugaite and Carbin, "On the Generalization Improvement from Neural Network Pruning",
ICML 2021 workshop. Networks that memorize 300 digits with 15 % random labels are pruned in rounds:
train, remove the smallest 60 % of the remaining weights, four times, and go on with the others
either from the initial values (weight rewinding) or from where they are (learning-rate rewinding);
the learning rate falls to 0 within each round, and starts again.

Each ablation replaces one choice by its plain alternative, with as many steps of training:

- extra training: nothing is removed, the learning rate is rewound;
- scoring: weights are removed at random;
- schedule: the weights are removed at once, after the first round;
- learning rate: it is not rewound, the rounds after the first one are at a tenth of it;
- width: dense networks of as many weights, trained in one round.

Every arm takes the round, so the density, that is best on 300 clean validation digits: five choices
for each. The improvement of an arm is the test error of the dense network after one round, over
which no choice is made, less that of the arm; the contribution of a choice is the improvement of
the whole algorithm less that of the ablation, over the improvement of the whole.

Control: labels without noise, of which a network of this size generalizes as well dense as pruned;
for the contributions, a choice that does all of it, so that an arm with it alone is the whole
algorithm, and an arm without it the dense network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from rlop.experiments.digits import corrupt, load_digits
from rlop.experiments.fit import (
    accuracy,
    apply_masks,
    child_seeds,
    fit,
    network,
    orders,
    predict,
    weight_matrices,
)
from rlop.experiments.outcome import Outcome
from rlop.optim import Adam

RUNS = 2
ROUNDS = 5  # the first one is dense
CUT = 0.6
CORRUPTED = 0.15
N = 300  # few enough, and passes enough, that the dense network fits every random label
VALIDATION = 300
EPOCHS = 100
BATCH = 50
WIDTH = 128
LR = 1e-2


@dataclass(frozen=True)
class Arm:
    """One variant of pruning.

    Args:
        scoring: "magnitude", "random", or "none" for extra training without pruning.
        at_once: whether all weights are removed after the first round.
        rewind_weights: whether the weights start each round from their initial values.
        rewind_rate: whether the learning rate starts each round from its initial value.
    """

    scoring: str = "magnitude"
    at_once: bool = False
    rewind_weights: bool = False
    rewind_rate: bool = True


WEIGHT_REWINDING = "weight rewinding"
RATE_REWINDING = "learning-rate rewinding"
ARMS = {
    WEIGHT_REWINDING: Arm(rewind_weights=True),
    RATE_REWINDING: Arm(),
    "extra training": Arm(scoring="none"),
    "scoring": Arm(scoring="random"),
    "schedule": Arm(at_once=True),
    "learning rate": Arm(rewind_rate=False),
}
ALGORITHMS = (WEIGHT_REWINDING, RATE_REWINDING)
CHOICES = ("extra training", "scoring", "schedule", "learning rate")


@dataclass(frozen=True)
class Errors:
    """Errors by round, each the mean over the runs."""

    validation: list[float]
    test: list[float]

    @property
    def best(self) -> float:
        """The test error of the round that is best on validation."""
        return self.test[self.validation.index(min(self.validation))]


@dataclass(frozen=True)
class Task:
    """Digits with noisy labels."""

    x: Tensor
    labels: Tensor  # [R, N]
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor

    def errors_of(self, net: nn.Module) -> tuple[float, float]:
        """Return validation and test error."""
        parts = ((self.x_validation, self.y_validation), (self.x_test, self.y_test))
        found = [1 - accuracy(predict(net, x, RUNS), y).mean().item() for x, y in parts]
        return found[0], found[1]


def load_task(seed: int, corrupted: float) -> Task:
    """Split the digits into train, validation and test, and corrupt the labels of the first."""
    data = load_digits(N, seed)
    labels = corrupt(data.y, corrupted, Generator().manual_seed(seed)).expand(RUNS, -1)
    return Task(
        data.x,
        labels,
        data.x_test[:VALIDATION],
        data.y_test[:VALIDATION],
        data.x_test[VALIDATION:],
        data.y_test[VALIDATION:],
    )


def falling(
    batches: Iterable[Tensor], optimizer: torch.optim.Optimizer, rate: float
) -> Iterator[Tensor]:
    """Yield the batches, while the learning rate falls linearly from `rate` to 0."""
    all_batches = list(batches)
    for step, batch in enumerate(all_batches):
        for group in optimizer.param_groups:
            group["lr"].fill_(rate * (1 - step / len(all_batches)))
        yield batch


def train_arm(arm: Arm, task: Task, seed: int, width: int = WIDTH, rounds: int = ROUNDS) -> Errors:
    """Train in rounds, and measure the errors after each."""
    *seeds, shuffle, score = child_seeds(seed, RUNS + 2)
    net = network(seeds, task.x.shape[1], (width,), 10)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weight_matrices(net).items()}
    generator = Generator().manual_seed(score)

    validation: list[float] = []
    test: list[float] = []
    for round_, child in enumerate(child_seeds(shuffle, rounds)):
        if round_ and arm.rewind_weights:
            net.load_state_dict(start)
        apply_masks(net, masks)

        rate = LR if round_ == 0 or arm.rewind_rate else LR / 10
        optimizer = Adam(net.parameters(), lr=rate)
        batches = falling(orders(RUNS, N, BATCH, EPOCHS, child), optimizer, rate)
        fit(net, optimizer, task.x, task.labels, batches, after=partial(apply_masks, net, masks))

        found = task.errors_of(net)
        validation.append(found[0])
        test.append(found[1])
        if arm.scoring != "none" and not (arm.at_once and round_ > 0):
            share = 1 - (1 - CUT) ** (ROUNDS - 1) if arm.at_once else CUT
            scores = scores_of(weight_matrices(net), arm.scoring, generator)
            masks = cut(scores, masks, share)
    return Errors(validation, test)


@torch.no_grad()
def scores_of(weights: dict[str, Tensor], scoring: str, generator: Generator) -> dict[str, Tensor]:
    """Score every weight; the lowest are removed."""
    if scoring == "random":
        return {name: torch.rand(w.shape, generator=generator) for name, w in weights.items()}
    return {name: w.abs() for name, w in weights.items()}


@torch.no_grad()
def cut(
    scores: dict[str, Tensor], masks: dict[str, Tensor], share: float = CUT
) -> dict[str, Tensor]:
    """Exclude the lowest `share` of the weights that are left, of every run, layers together.

    Args:
        scores: scores of weight matrices by name, `[R, O, I]`, above 0 where a mask is set.
        masks: masks of the weights that are left.
        share: share to remove.
    Returns:
        The new masks.
    """
    all_scores = torch.cat([(scores[name] * masks[name]).flatten(1) for name in masks], 1)
    left = torch.cat([mask.flatten(1) for mask in masks.values()], 1).sum(1)

    # A weight stays if its score is above the highest one that is removed.
    descending = all_scores.sort(1, descending=True).values
    first_cut = ((1 - share) * left).long()[:, None]
    floor = descending.gather(1, first_cut)[..., None]
    return {name: mask & (scores[name] > floor) for name, mask in masks.items()}


def narrow_width(round_: int) -> int:
    """Return the width of a dense network with as many weights as are left in a round."""
    return max(1, round(WIDTH * (1 - CUT) ** round_))


def narrow_errors(task: Task, seed: int) -> Errors:
    """Train dense networks of the number of weights of each round."""
    validation: list[float] = []
    test: list[float] = []
    for round_, child in enumerate(child_seeds(seed, ROUNDS)):
        width = narrow_width(round_)
        errors = train_arm(Arm(scoring="none"), task, child, width, rounds=1)
        validation += errors.validation
        test += errors.test
    return Errors(validation, test)


def values_of(
    rewound: dict[str, Errors], arms: dict[str, Errors], narrow: Errors
) -> dict[str, float]:
    """Name the measures.

    Args:
        rewound: both algorithms as a whole.
        arms: the ablations of learning-rate rewinding.
        narrow: networks of other widths.
    """
    whole = rewound[RATE_REWINDING]
    dense = whole.test[0]
    values = {f"{name}: improvement": dense - errors.best for name, errors in rewound.items()}
    for name, errors in arms.items():
        values[f"{name}: contribution / whole improvement"] = contribution(name, errors, whole)

    values["narrow networks: improvement"] = narrow.test[0] - narrow.best
    values["best narrow - best pruned network: error"] = narrow.best - whole.best
    return values


def contribution(name: str, errors: Errors, whole: Errors) -> float:
    """Return what one choice contributes, in units of the whole improvement.

    The arm "extra training" has that choice alone, all others lack theirs. Where the whole improves
    nothing, there is nothing to share out: each contribution counts as all of it, 1.
    """
    dense = whole.test[0]
    improvement = dense - whole.best
    if improvement <= 0:
        return 1.0
    part = dense - errors.best if name == "extra training" else errors.best - whole.best
    return part / improvement


def trained(names: tuple[str, ...], task: Task, seed: int) -> dict[str, Errors]:
    """Train arms from the same start."""
    return {name: train_arm(ARMS[name], task, seed) for name in names}


def run(seed: int) -> Outcome:
    """Prune in four rounds by two algorithms and four ablations; train narrow networks."""
    task_seed, arm_seed, narrow_seed = child_seeds(seed, 3)
    task = load_task(task_seed, CORRUPTED)
    rewound = trained(ALGORITHMS, task, arm_seed)
    arms = trained(CHOICES, task, arm_seed)
    narrow = narrow_errors(task, narrow_seed)

    kept = [(1 - CUT) ** round_ for round_ in range(ROUNDS)]
    curves = {name: (kept, errors.test) for name, errors in {**rewound, **arms}.items()}
    curves["narrow, dense"] = (kept, narrow.test)
    values = values_of(rewound, arms, narrow)
    return Outcome(values, curves, x="share of weights kept", y="test error", log="x")


def control(seed: int) -> dict[str, float]:
    """Prune networks of clean labels; let one choice do the work of the whole algorithm."""
    task_seed, arm_seed, narrow_seed = child_seeds(seed, 3)
    clean = load_task(task_seed, 0.0)
    rewound = trained(ALGORITHMS, clean, arm_seed)
    values = values_of(rewound, {}, narrow_errors(clean, narrow_seed))

    noisy = load_task(task_seed, CORRUPTED)
    whole = train_arm(ARMS[RATE_REWINDING], noisy, arm_seed)
    dense = Errors(whole.validation[:1], whole.test[:1])
    for name in CHOICES:
        errors = whole if name == "extra training" else dense
        values[f"{name}: contribution / whole improvement"] = contribution(name, errors, whole)
    return values
