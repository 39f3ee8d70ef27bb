"""VS-loss: beyond zero train error weights and offsets stop mattering, scales of the logits do not.

Row 50: Kini, Paraskevas, Oymak and Thrampoulidis, "Label-Imbalanced and Group-Sensitive
Classification under Overparameterization", arXiv:2103.01550, binary form

    w_y log(1 + exp(iota_y - Delta_y y f)),   Delta_y = (N_y / N_max)^gamma

The abstract says that in the terminal phase of training, beyond zero train error, (1) re-weighted
cross-entropy fails and additive adjustments are ineffective, (2) multiplicative ones are necessary
for linear classifiers: they change the relative margins, as those of a cost-sensitive support
vector machine, to 1 / Delta; (3) additive ones can speed up convergence, by countering an initial
negative effect of the multiplicative ones; (4) the VS-loss has the others as special cases; and (5)
on Gaussian mixtures balanced error and equal opportunity trade off against the standard error.

Setting: two Gaussians, 10 points against 90 in 150 dimensions, five draws, a linear classifier with
bias and descent on the logarithm of the loss, which goes to infinity like descent on the loss but
faster. "Early" is after 10 steps, "late" after 2,000, far beyond zero train error. Test errors are
exact. For equal opportunity, two groups of 10 and 90 points have both labels and means of their
own, and Delta belongs to the group.

Control: the scaled arm in place of the weighted and of the additive one, plain cross-entropy in
place of the scaled and the whole one, and an unequal exponent in the special cases.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rlop.experiments.fit import child_seeds
from rlop.experiments.outcome import Outcome
from rlop.losses.imbalance import vs_loss

MINORITY = 10
MAJORITY = 90
RATIO = MAJORITY / MINORITY
D = 150
NORM = 2.0  # of the mean of either class
EARLY = 10
LATE = 2000
DRAWS = 5
LR = 0.02
GAMMA = 0.6


class Arm(NamedTuple):
    """Settings of the minority; the majority has weight 1, iota 0 and Delta 1."""

    weight: float = 1.0
    iota: float = 0.0
    scale: float = 1.0  # Delta


OFFSET = torch.tensor(RATIO).log().item()
ARMS = {
    "cross-entropy": Arm(),
    "weighted": Arm(weight=RATIO),
    "additive": Arm(iota=OFFSET),
    "scaled": Arm(scale=RATIO**-GAMMA),
    "scaled and additive": Arm(iota=OFFSET, scale=RATIO**-GAMMA),
    "scaled by half": Arm(scale=RATIO ** (-GAMMA / 2)),
}
SWAPPED = {
    "cross-entropy": ARMS["cross-entropy"],
    "weighted": ARMS["scaled"],
    "additive": ARMS["scaled"],
    "scaled": ARMS["cross-entropy"],
    "scaled and additive": ARMS["cross-entropy"],
    "scaled by half": ARMS["cross-entropy"],
}


class Errors(NamedTuple):
    """Test errors of one arm, and the margins of its train points, means over the draws."""

    minority: float
    majority: float
    margins: float  # least margin of the minority / of the majority

    @property
    def balanced(self) -> float:
        """Mean over the classes."""
        return (self.minority + self.majority) / 2

    @property
    def standard(self) -> float:
        """Mean over the points."""
        return (MINORITY * self.minority + MAJORITY * self.majority) / (MINORITY + MAJORITY)


def run(seed: int) -> Outcome:
    """Train linear classifiers under six losses, and for two groups under two."""
    early, late = trained(seed, ARMS)
    values = measures(seed, early, late, ARMS["scaled"], gamma=0.0)

    arms = list(range(len(ARMS)))
    curves = {
        "minority, late": (arms, [late[name].minority for name in ARMS]),
        "majority, late": (arms, [late[name].majority for name in ARMS]),
        "minority, early": (arms, [early[name].minority for name in ARMS]),
    }
    return Outcome(values, curves, x="loss: " + ", ".join(ARMS), y="test error")


def control(seed: int) -> dict[str, float]:
    """Swap the arms, leave the groups alone, and break the special cases."""
    early, late = trained(seed, SWAPPED)
    return measures(seed, early, late, ARMS["cross-entropy"], gamma=0.3)


def measures(
    seed: int, early: dict[str, Errors], late: dict[str, Errors], group_arm: Arm, gamma: float
) -> dict[str, float]:
    """Name the numbers."""
    plain, scaled = late["cross-entropy"], late["scaled"]
    values = {}
    for name in ("weighted", "additive"):
        gains = [arms["cross-entropy"].minority - arms[name].minority for arms in (late, early)]
        values[f"gain of the minority, {name}, late / early"] = gains[0] / gains[1]
        values[f"margin of minority / majority, {name}"] = late[name].margins
    values["margin of minority / majority, scaled, times Delta"] = scaled.margins * RATIO**-GAMMA
    values["minority error late, cross-entropy - scaled"] = plain.minority - scaled.minority

    values["minority error early, scaled - cross-entropy"] = (
        early["scaled"].minority - early["cross-entropy"].minority
    )
    values["minority error early, scaled - scaled and additive"] = (
        early["scaled"].minority - early["scaled and additive"].minority
    )
    values["largest difference to a special case"] = special_cases(seed, gamma)

    half = late["scaled by half"]
    values["balanced error, cross-entropy - scaled by half"] = plain.balanced - half.balanced
    values["standard error, scaled by half - cross-entropy"] = half.standard - plain.standard
    unequal, standard = group_errors(seed, ARMS["cross-entropy"])
    unequal_scaled, standard_scaled = group_errors(seed, group_arm)
    values["difference of opportunity, cross-entropy - scaled"] = unequal - unequal_scaled
    values["standard error of groups, scaled - cross-entropy"] = standard_scaled - standard
    return values


def trained(seed: int, arms: dict[str, Arm]) -> tuple[dict[str, Errors], dict[str, Errors]]:
    """Train every arm on the same draws; return the errors early and late."""
    generator = Generator().manual_seed(child_seeds(seed, 1)[0])
    y = torch.cat([torch.ones(MINORITY), -torch.ones(MAJORITY)]).double()
    mean = torch.zeros(D, dtype=torch.float64)
    mean[0] = NORM
    z = torch.randn(DRAWS, len(y), D, generator=generator, dtype=torch.float64) + y[:, None] * mean
    x = with_bias(z).repeat(len(arms), 1, 1)

    is_minority = y > 0
    weight, iota, scale = spread(list(arms.values()), is_minority)
    results = []
    theta = torch.zeros(len(x), D + 1, 1, dtype=torch.float64)
    for steps in (EARLY, LATE - EARLY):
        theta = descend(theta, x, y, weight, iota, scale, steps)
        flat = theta[..., 0]
        margins = (x @ theta)[..., 0] * y
        least = margins[:, is_minority].amin(1) / margins[:, ~is_minority].amin(1)
        columns = torch.stack([error(flat, mean, 1), error(flat, -mean, -1), least])
        means = columns.view(3, len(arms), DRAWS).mean(-1)
        results.append({name: Errors(*means[:, i].tolist()) for i, name in enumerate(arms)})
    return results[0], results[1]


def with_bias(x: Tensor) -> Tensor:
    """Append a feature that is 1."""
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def spread(arms: list[Arm], is_minority: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give every point of every run its weight, iota and Delta, `[R, N]` each."""
    settings = torch.tensor(arms, dtype=torch.float64).repeat_interleave(DRAWS, 0)
    majority = Arm()
    columns = []
    for i, value in enumerate(majority):
        columns.append(torch.where(is_minority, settings[:, i, None], value))
    weight = columns[0] / columns[0].sum(-1, keepdim=True)
    return weight, columns[1], columns[2]


def descend(
    theta: Tensor, x: Tensor, y: Tensor, weight: Tensor, iota: Tensor, scale: Tensor, steps: int
) -> Tensor:
    """Run gradient descent on the logarithm of the weighted VS-loss of a linear model.

    Args:
        theta: `[R, D, 1]`.
        x: `[R, N, D]`.
        y: +-1, `[N]`.
        weight, iota, scale: `[R, N]`.
        steps: number of steps.
    Returns:
        `[R, D, 1]`.
    """
    for _ in range(steps):
        excess = iota - (x @ theta)[..., 0] * y * scale
        loss = (weight * F.softplus(excess)).sum(-1, keepdim=True)
        slope = -weight * scale * y * excess.sigmoid() / loss
        theta = theta - LR * (x.mT @ slope[..., None])
    return theta


def error(theta: Tensor, mean: Tensor, sign: int) -> Tensor:
    """Compute the exact error on a Gaussian around `mean` of label `sign`, `[R]`.

    The output on such a point is itself Gaussian.
    """
    w, bias = theta[:, :-1], theta[:, -1]
    return torch.special.ndtr(-sign * (w @ mean + bias) / w.norm(dim=-1))


def group_errors(seed: int, arm: Arm) -> tuple[float, float]:
    """Train on two groups with one Delta each.

    Returns:
        |error on label 1 of the minority - of the majority|, and the standard error.
    """
    generator = Generator().manual_seed(child_seeds(seed, 2)[1])
    means = torch.zeros(2, D, dtype=torch.float64)  # minority, majority
    means[0, 0] = means[1, 1] = NORM
    is_minority = torch.arange(MINORITY + MAJORITY) < MINORITY
    y = torch.arange(MINORITY + MAJORITY).double() % 2 * 2 - 1
    center = y[:, None] * means[(~is_minority).long()]
    z = torch.randn(DRAWS, len(y), D, generator=generator, dtype=torch.float64) + center
    weight, iota, scale = spread([arm], is_minority)
    theta = torch.zeros(DRAWS, D + 1, 1, dtype=torch.float64)
    theta = descend(theta, with_bias(z), y, weight, iota, scale, LATE)[..., 0]

    positive = [error(theta, mean, 1) for mean in means]
    negative = [error(theta, -mean, -1) for mean in means]
    group = [(p + n) / 2 for p, n in zip(positive, negative)]
    standard = (MINORITY * group[0] + MAJORITY * group[1]) / (MINORITY + MAJORITY)
    return (positive[0] - positive[1]).abs().mean().item(), standard.mean().item()


def special_cases(seed: int, gamma: float) -> float:
    """Compare `vs_loss` with cross-entropy, logit adjustment and class-dependent temperatures.

    Args:
        seed: of logits and labels.
        gamma: exponent of the loss where the first two have 0.
    Returns:
        Largest absolute difference.
    """
    generator = Generator().manual_seed(seed)
    logits = torch.randn(1, 50, 3, generator=generator, dtype=torch.float64)
    label = torch.randint(3, (1, 50), generator=generator)
    counts = torch.tensor([5.0, 20.0, 75.0], dtype=torch.float64)
    share = counts / counts.sum()

    cases = [
        (vs_loss(logits, label, counts, gamma, 0.0), logits),
        (vs_loss(logits, label, counts, gamma, 1.0), logits + share.log()),
        (vs_loss(logits, label, counts, 0.3 + gamma, 0.0), logits * (counts / 75) ** 0.3),
    ]
    differences = []
    for loss, adjusted in cases:
        plain = F.cross_entropy(adjusted.mT, label, reduction="none")
        differences.append((loss - plain).abs().max().item())
    return max(differences)
