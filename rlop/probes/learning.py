"""When each transition is learned and forgotten, and how compact the features of a class are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rlop.probes.shapes import shapes_of


class LearningTime:
    """Per-transition record of R runs, fed with the TD errors of each minibatch.

    A transition is learned at the first step at which it is seen with |delta| < tau, and forgotten
    whenever it is seen with |delta| >= tau and was below tau when last seen. A NaN is not learned.
    All tensors stay on the device.

    Args:
        runs: R.
        size: N, transitions of the data set.
        tau: threshold on |delta|, in units of the target.
        device: device of the record.
    Raises:
        ValueError: for a number that is not positive.
    Reference: Sadrtdinov, Chirkova, Lobacheva, "On the Memorization Properties of Contrastive
        Learning", 2021, arXiv:2107.10143 (learning times); Toneva et al., "An Empirical Study of
        Example Forgetting", ICLR 2019, arXiv:1812.05159 (forgetting events; defined there by
        classification, here by a threshold).
    """

    NEVER = -1

    def __init__(
        self,
        runs: int,
        size: int,
        tau: float,
        device: torch.device | str = "cpu",
    ) -> None:
        if not tau > 0 or runs < 1 or size < 1:
            numbers = f"runs = {runs}, size = {size}, tau = {tau}"
            raise ValueError(f"{numbers}: expected at least 1, 1 and above 0")

        self.tau = tau
        shape = (runs, size)
        self.first_step = torch.full(shape, self.NEVER, dtype=torch.int64, device=device)
        self.forgotten = torch.zeros(shape, dtype=torch.int64, device=device)  # events
        self.fitted = torch.zeros(shape, dtype=torch.bool, device=device)  # when last seen
        self.seen = torch.zeros(shape, dtype=torch.bool, device=device)

    @torch.no_grad()
    def add(
        self,
        step: int,
        delta: Tensor,
        index: Tensor,
    ) -> None:
        """Record one minibatch.

        Args:
            step: gradient step, at least 0.
            delta: TD errors, `[R, B]`.
            index: their rows in the data set, `[R, B]` int64; a row that appears twice must have
                the same error.
        Raises:
            ValueError: when shapes do not fit.
        """
        runs = len(self.seen)
        if delta.shape != index.shape or delta.ndim != 2 or len(delta) != runs:
            shapes = shapes_of(delta, index)
            raise ValueError(f"delta and index: expected [{runs}, B] both, got {shapes}")

        fits = delta.abs() < self.tau
        was_fitted = self.fitted.gather(1, index)
        first_step = self.first_step.gather(1, index)
        forgotten = self.forgotten.gather(1, index)

        keeps_first = (first_step != self.NEVER) | ~fits
        first_step = first_step.where(keeps_first, step)
        forgets = was_fitted & ~fits

        self.first_step.scatter_(1, index, first_step)
        self.forgotten.scatter_(1, index, forgotten + forgets)
        self.fitted.scatter_(1, index, fits)
        self.seen.scatter_(1, index, torch.ones_like(fits))

    def summary(self) -> dict[str, Tensor]:
        """Summarize the record of every run.

        Returns:
            `learned` share of the transitions seen, `time` mean first step of the learned ones,
            `forgotten` events for each learned one; `[R]` float64 each.
        """
        learned = self.first_step != self.NEVER
        count = learned.sum(-1)
        return {
            "learned": count / self.seen.sum(-1).double(),
            "time": (self.first_step * learned).sum(-1) / count.double(),
            "forgotten": self.forgotten.sum(-1) / count.double(),
        }


class ClassVariance(NamedTuple):
    """Variance of features, summed over dimensions, `[...]` each.

    `within + between` is the total.
    """

    within: Tensor
    between: Tensor
    ratio: Tensor  # within / between: 0 where classes have collapsed to their means


@torch.no_grad()
def class_variance(
    features: Tensor,
    label: Tensor,
    n_classes: int,
) -> ClassVariance:
    """Measure the spread of features within and between classes.

        within = 1/n sum_i ||phi_i - mu_{y_i}||^2,  between = sum_c n_c/n ||mu_c - mu||^2

    Args:
        features: phi, `[..., n, d]`.
        label: class of each row, `[..., n]` int64 in [0, n_classes): its action, or a bin, see
            `quantile_bins`.
        n_classes: number of classes; empty ones do not count.
    Returns:
        Within, between and their ratio, float64.
    Raises:
        ValueError: when shapes do not fit.
    Reference: the law of total variance; that compact classes go with good performance was studied
        by Chumachenko, Laakom, Raitoharju, Iosifidis, Gabbouj, ICML 2021 workshop on
        overparameterization.
    """
    if features.ndim < 2 or label.shape != features.shape[:-1]:
        shapes = shapes_of(features, label)
        raise ValueError(f"features and label: expected [..., n, d] and [..., n], got {shapes}")

    phi = features.double()
    member = F.one_hot(label, n_classes).double()
    size = member.sum(-2)  # [..., C]
    total = member.mT @ phi
    mean = total / size.clamp_min(1).unsqueeze(-1)  # [..., C, d]

    from_center = mean - phi.mean(-2, keepdim=True)
    distance = from_center.square().sum(-1)
    between = (size * distance).sum(-1) / phi.shape[-2]

    from_class = phi - member @ mean
    within = from_class.square().sum(-1).mean(-1)
    return ClassVariance(within, between, within / between)


@torch.no_grad()
def quantile_bins(values: Tensor, n_bins: int) -> Tensor:
    """Sort values into bins of equal count: classes for `class_variance` from returns or targets.

    Args:
        values: `[..., n]`; equal values are split between bins in their order.
        n_bins: at most n.
    Returns:
        Bin of each value, `[..., n]` int64 in [0, n_bins).
    Raises:
        ValueError: for a number of bins out of range.
    """
    if values.ndim < 1 or not 1 <= n_bins <= values.shape[-1]:
        expected = f"expected 1 to the number of values, {shapes_of(values)}"
        raise ValueError(f"n_bins = {n_bins}: {expected}")

    order = values.argsort(dim=-1, stable=True)
    place = order.argsort(dim=-1)
    return place * n_bins // values.shape[-1]
