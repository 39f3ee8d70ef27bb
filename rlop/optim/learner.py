"""From a loss to new parameters: gradient, clip, optimizer, masks, projections, target network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlop.losses.td import update_target_
from rlop.nets.layers import Constraints
from rlop.optim import RMD, Adam, MakeOptimizer, clip_runs, run_norms
from rlop.types import Batch, InputError

Projection = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Tensor], None]


class Learner:
    """An online network of R runs, its optimizer and its target network.

    A run whose loss or gradient is not finite is frozen permanently: its parameters stay at their
    last finite values and `active` becomes False; the other runs continue.

    Args:
        online: network with parameters `[R, ...]`.
        lr: `[R]` learning rates.
        tau: `[R]` weights of the target update; None for no target network.
        make: (parameters, lr) -> optimizer, see `rlop.optim.optimizer_maker`.
        max_grad_norm: clip each run's gradient to this l2 norm; None for no clipping.
        projections: (projection, radius `[R]`) pairs, applied in this order after the optimizer.
    """

    def __init__(
        self,
        online: nn.Module,
        *,
        lr: Tensor,
        tau: Tensor | None = None,
        make: MakeOptimizer = Adam,
        max_grad_norm: float | None = None,
        projections: Sequence[tuple[Projection, Tensor]] = (),
    ) -> None:
        self.online = online
        self.target: Any = None if tau is None else copy.deepcopy(online).requires_grad_(False)
        self.parameters = dict(online.named_parameters())
        self.initial = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.constrain = Constraints(online)
        self.optimizer = make(list(self.parameters.values()), lr)
        self.slacks = self.optimizer if isinstance(self.optimizer, RMD) else None
        self.tau = tau
        self.max_grad_norm = max_grad_norm
        self.projections = tuple(projections)
        self.active = torch.ones_like(lr, dtype=torch.bool)
        self.steps = torch.zeros((), dtype=torch.int64, device=lr.device)  # steps done

    def allot(self, *shape: int) -> None:
        """Allocate a slack for each transition, if the optimizer is RMD.

        Args:
            shape: `(N,)`, or `(E, N)` with E critics.
        """
        if self.slacks is not None:
            self.slacks.allot(*shape)

    def relaxed(self, batch: Batch) -> Batch:
        """Return the batch, with its slacks as `extra["slack"]`, `[R, ..., B]`, under RMD."""
        if self.slacks is None:
            return batch
        slack = self.slacks.read(batch.index)
        return batch._replace(extra={**batch.extra, "slack": slack})

    @torch.no_grad()
    def apply(self, grads: Sequence[Tensor], norms: Tensor) -> None:
        """Step the runs that are active; then restore masks and projections.

        Args:
            grads: gradients of the parameters, in their order.
            norms: norm of each run's gradient, `[R]`.
        """
        clipped = clip_runs(grads, norms, self.active, self.max_grad_norm)
        self.optimizer.apply(clipped, self.active)
        self.project()
        self.steps.add_(1)

    @torch.no_grad()
    def project(self) -> None:
        """Re-apply masks and projections, after any change of the parameters."""
        self.constrain(self.parameters)
        for project, radius in self.projections:
            project(self.parameters, self.initial, radius)

    def update_target(self) -> None:
        """Move the target network, if there is one, by tau toward the online one.

        Running statistics are copied.
        """
        if self.target is None or self.tau is None:
            return
        lagging, online = list(self.target.parameters()), list(self.parameters.values())
        update_target_(lagging, online, self.tau)
        for old, new in zip(self.target.buffers(), self.online.buffers(), strict=True):
            old.copy_(new)

    def one_run(self, run: int) -> Learner:
        """Return a copy of one run's online network, without what could train it."""
        alone = type(self).__new__(type(self))
        alone.online = one_run_of(self.online, run)
        alone.parameters = dict(alone.online.named_parameters())
        alone.target = None
        alone.active = self.active[run : run + 1].clone()
        alone.steps = self.steps.clone()
        return alone

    def state_dict(self) -> dict[str, Any]:
        """Return what training changes, and the initial parameters that projections refer to."""
        return {
            "online": self.online.state_dict(),
            "target": self.target.state_dict() if self.target is not None else {},
            "optimizer": self.optimizer.state_dict(),
            "initial": self.initial,
            "active": self.active,
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.online.load_state_dict(state["online"])
        if self.target is not None:
            self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, saved in state["initial"].items():
            self.initial[name].copy_(saved)
        self.active.copy_(state["active"])
        self.steps.copy_(state["steps"])


def one_run_of(network: nn.Module, run: int) -> nn.Module:
    """Copy one run of a network, in evaluation mode and without gradients.

    Args:
        network: parameters `[R, ...]`; buffers are the same, or a single number that all share.
        run: index of the run.
    Returns:
        The same network with R = 1.
    """
    # What a deep copy finds in the memo, it takes from there.
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        values = parameter.detach()[run : run + 1].clone()
        memo[id(parameter)] = nn.Parameter(values, requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer[run : run + 1].clone() if buffer.ndim else buffer.clone()
    return copy.deepcopy(network, memo).eval()


def step_together(
    parts: Sequence[tuple[Learner, Tensor]],
    batch: Batch | None = None,
    waiting: Sequence[Learner] = (),
) -> list[Tensor]:
    """Step several networks of the same runs, each down its own loss `[R]`.

    All gradients are taken at the same parameters, before any network moves. A run is frozen in all
    networks as soon as one of its losses or gradients is not finite.

    Args:
        parts: learners with their losses.
        batch: from `Learner.relaxed`, if one of them uses slacks.
        waiting: learners of the same runs that do not step now; a run that freezes does so in
            these, too.
    Returns:
        The norm of each network's gradient, `[R]`, in the order of `parts`.
    """
    gradients = []
    for position, (learner, loss) in enumerate(parts):
        # An encoder descends the loss of the critics that read it.
        is_shared = any(other is loss for _, other in parts[position + 1 :])
        gradients.append(_gradients(learner, loss, batch, keeps_graph=is_shared))
    norms = [run_norms(grads) for grads, _ in gradients]
    magnitudes = [*norms, *(loss.detach().abs() for _, loss in parts)]
    finite = torch.isfinite(torch.stack(magnitudes).sum(0))

    for (learner, _), (grads, slope), norm in zip(parts, gradients, norms, strict=True):
        learner.active.logical_and_(finite)
        learner.apply(grads, norm)
        if slope is not None and learner.slacks is not None and batch is not None:
            learner.slacks.relax(batch.index, slope, learner.active)
    for learner in waiting:
        learner.active.logical_and_(finite)
    return norms


def _gradients(
    learner: Learner, loss: Tensor, batch: Batch | None, keeps_graph: bool
) -> tuple[list[Tensor], Tensor | None]:
    """Return the gradients of the parameters, and that of the batch's slacks, if there are any.

    Summed over runs, since gradients of different runs never mix. The loss of several networks
    keeps its graph until the last of them.
    """
    parameters = list(learner.parameters.values())
    total = loss.sum()
    if learner.slacks is None or batch is None:
        return list(torch.autograd.grad(total, parameters, retain_graph=keeps_graph)), None

    slack = batch.extra["slack"]
    *gradients, slope = torch.autograd.grad(
        total, [*parameters, slack], retain_graph=keeps_graph, allow_unused=True
    )
    if slope is None:
        raise InputError(
            "optimizer = rmd: the agent's loss has no slack; it takes `relaxed(error, batch)` of "
            "rlop.optim.rmd in place of each error, or another optimizer"
        )
    return gradients, slope
