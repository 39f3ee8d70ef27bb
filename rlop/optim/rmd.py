"""Regularizer mirror descent: interpolation up to a slack per sample.

It amounts to an explicit regularizer. With a slack z_i for each sample, mirror descent on (w, z)
under the potential psi(w) + (lambda/2) sum z_i^2 converges to the weights where

    lambda sum_i L_i(w) + psi(w)

is smallest, exactly if the model is linear. The constraint has two forms:

    signed    f_i(w) + z_i = y_i         for losses of an error: regress on y - z
    unsigned  sqrt(2 L_i(w)) = z_i       for any loss >= 0, one slack level per minibatch;
                                         see `unsigned_loss`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlop.config.checks import check_known
from rlop.optim.smd import SMD
from rlop.runs import run_values
from rlop.types import Batch

FORMS = ("signed", "unsigned")
EPS = 1e-12  # under the root of `unsigned_loss`


def unsigned_loss(loss: Tensor, slack: Tensor) -> Tensor:
    """Return the loss that RMD minimizes for a loss L >= 0: (s - z)^2 / 2.

    Here s = sqrt(2 L), and z is the minibatch's mean slack. The gradient is (s - z)/s grad L: the
    step descends L, with an lr that is negative where z > s. The gradient with respect to a slack
    is -(s - z)/B.

    Args:
        loss: `[R]`, mean over the minibatch, >= 0.
        slack: `[R, B]`.
    Returns:
        `[R]`.
    Reference: Azizan, Lale and Hassibi, arXiv:2202.10788, algorithm 1; in minibatches as in the
        authors' code.
    Differs from: that code in the 1e-12 added to 2 L, without which L = 0 has no gradient.
    """
    if slack.ndim != 2 or loss.shape != slack.shape[:1]:
        raise ValueError(
            f"slack {tuple(slack.shape)}: expected [R, B] "
            f"with the loss {tuple(loss.shape)} one per run"
        )
    return (torch.sqrt(2 * loss + EPS) - slack.mean(-1)).square() / 2


@torch.no_grad()
def slack_(
    slack: Tensor,
    index: Tensor,
    slope: Tensor,
    rate: Tensor,
    active: Tensor | None = None,
) -> None:
    """Make one gradient step of the slacks of a minibatch, in place.

        z_i <- z_i - rate dL/dz_i

    A sample that is in the minibatch twice takes both steps.

    Args:
        slack: z, `[R, ..., N]`, changed in place.
        index: `[R, B]` int64, rows of the data set.
        slope: gradient of the descended loss with respect to the slacks of the batch,
            `[R, ..., B]`.
        rate: `[R]`, lr / lambda.
        active: `[R]` bool; slacks of other runs stay. None for all.
    Reference: the signed form is the auxiliary variable of Hu, Li and Yu, ICLR 2020,
        arXiv:1905.11368.
    """
    runs_and_batch = (slope.shape[0], slope.shape[-1])
    if slack.shape[:-1] != slope.shape[:-1] or index.shape != runs_and_batch:
        shapes = tuple(slack.shape), tuple(index.shape), tuple(slope.shape)
        raise ValueError(
            f"slack, index, slope: expected [R, ..., N], [R, B], [R, ..., B], got {shapes}"
        )

    lead = (-1, *[1] * (slope.ndim - 1))
    step = -rate.view(lead) * slope
    if active is not None:
        step = torch.where(active.view(lead), step, 0.0)
    slack.scatter_add_(-1, _spread(index, slope.shape), step)


def relaxed(error: Tensor, batch: Batch) -> Tensor:
    """Return the error Q - y; with RMD, Q - (y - z), z the slacks that `Learner.relaxed` added.

    Args:
        error: `[R, ..., B]`.
        batch: batch of the update.
    """
    if "slack" not in batch.extra:
        return error
    return error + batch.extra["slack"].view_as(error)


def _spread(index: Tensor, shape: Sequence[int]) -> Tensor:
    """Expand `[R, B]` to a shape `[R, ..., B]`."""
    middle = [1] * (len(shape) - 2)
    return index.view(len(index), *middle, -1).expand(shape)


class RMD(SMD):
    """`SMD` whose loss is relaxed by a slack for each transition of a data set.

        optimizer = RMD(net.parameters(), lr, lam=3.0)
        optimizer.allot(N)
        z = optimizer.read(index)                    # [R, B]
        loss = huber(q - target + z).mean(-1)        # signed, or unsigned_loss(loss, z)
        *grads, slope = torch.autograd.grad(loss.sum(), [*net.parameters(), z])
        optimizer.apply(grads)
        optimizer.relax(index, slope)

    Args:
        params, lr, q, reference: as in `SMD`; psi is the potential of the norm.
        lam: lambda, `[R]` tensor or one number for all runs, > 0: weight of the loss, against psi.
            As lambda tends to infinity the slacks stay at zero, which is `SMD`. A visit moves a
            slack by the share lr/lam (unsigned) or lr/(lam B) (signed, B in a minibatch) of its
            error: over n visits it acts from lam of about n times that lr or lr/B downwards, and
            beyond a share of 1 it overshoots.
        form: `signed`, or `unsigned`, whose slacks each take the whole step of the minibatch, not
            1/B of it.
    Reference: Azizan, Lale and Hassibi, "Explicit Regularization via Regularizer Mirror Descent",
        arXiv:2202.10788.
    Differs from: the authors' code in the initial slacks, 0 as in the paper, in the factor q of lr,
        see `smd_`, and in the signed form, which the paper does not have.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: Tensor | float,
        lam: Tensor | float,
        q: Tensor | float = 2.0,
        reference: str | Sequence[Tensor] = "zero",
        form: str = "signed",
    ) -> None:
        check_known("form", form, FORMS)
        super().__init__(params, lr, q, reference=reference)
        self.unsigned = form == "unsigned"

        (group,) = self.param_groups
        group["lam"] = run_values(lam, group["params"][0])
        group["slack"] = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy keep."""
        return {**super().__getstate__(), "unsigned": self.unsigned}

    @property
    def slack(self) -> Tensor:
        """All slacks z, `[R, ..., N]`.

        Raises:
            ValueError: before `allot`.
        """
        slack = self.param_groups[0]["slack"]
        if slack is None:
            raise ValueError(
                "RMD: no slacks yet, expected allot(N), with N the size of the data set, before"
            )
        return slack

    def allot(self, *shape: int) -> None:
        """Make slacks of zero, `[R, *shape]` with N last; slacks of that shape are kept."""
        (group,) = self.param_groups
        lr = group["lr"]
        stacked = (len(lr), *shape)
        if group["slack"] is None or group["slack"].shape != stacked:
            group["slack"] = torch.zeros(
                stacked, dtype=lr.dtype, device=lr.device, requires_grad=True
            )

    def read(self, index: Tensor) -> Tensor:
        """Return the slacks of a minibatch, differentiable.

        Args:
            index: `[R, B]`, rows of the data set.
        Returns:
            `[R, ..., B]`.
        """
        slack = self.slack
        shape = (*slack.shape[:-1], index.shape[-1])
        return slack.gather(-1, _spread(index, shape))

    def relax(self, index: Tensor, slope: Tensor, active: Tensor | None = None) -> None:
        """Move the slacks that `read` returned down their gradient; see `slack_`.

        Args:
            index: `[R, B]`, as given to `read`.
            slope: the gradient, `[R, ..., B]`.
            active: `[R]` bool; slacks of other runs stay. None for all.
        """
        (group,) = self.param_groups
        size = index.shape[-1] if self.unsigned else 1
        slack_(self.slack, index, size * slope, group["lr"] / group["lam"], active)
