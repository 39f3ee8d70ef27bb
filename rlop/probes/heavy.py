"""The heavier probes on one of our agents, by name, with rows few enough to stay cheap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlop.config.checks import check_known, check_range
from rlop.probes.agreement import (
    action_distance,
    action_shift,
    calibration,
    disagreement,
    nearest_center,
    other_runs,
)
from rlop.probes.alignment import layer_alignment
from rlop.probes.cka import cka_matrix
from rlop.probes.effective_parameters import effective_parameters
from rlop.probes.implicit import Implicit, implicit_parts, is_stable, label_noise_covariance
from rlop.probes.kernel import (
    kare,
    kernel_change,
    last_layer_gram,
    min_eigenvalue,
    seem_eigenvalue,
    td_kernel,
)
from rlop.probes.learning import class_variance
from rlop.probes.lipschitz import flip_radius, sensitivity
from rlop.probes.model import Subject
from rlop.types import Batch, InputError

KARE_ROWS, KARE_RIDGE = 256, 1e-3  # the ridge in units of the kernel's mean eigenvalue
CKA_ROWS = 256  # of a minibatch
STEP = 0.01  # of the implicit regularizer's noisy TD, over the norm of its kernel
CLUSTERS = 16  # of states
STATES = 64  # at which gradients with respect to the state are taken


def pack(
    agent: Any, batch: Batch, names: Sequence[str] | None = None, size: int = 16
) -> dict[str, Tensor]:
    """Heavier probes of every run of an agent; nothing of the agent changes.

    Gradients are held for `2 size` values of every run: 2 size R E times the parameters of one network, in its type.

    Args:
        agent: of discrete or continuous actions, with action values.
        batch: `[R, B, ...]`, the same rows for every run and at every step, best held out.
        names: keys of `PROBES`; None takes all that suit the agent.
        size: n of `kernel/min_eig`, `kernel/change`, `implicit/*` and `seem/eigenvalue`, whose values depend on it: at
            most so many different (s, a), spread over the batch.
    Returns:
        name -> `[R]` float64, of several critics their mean. NaN says that a quantity does not exist: no other seed to
        agree with, an unstable TD for `implicit/*`, a network without two adjacent matrices for `alignment/layers`.
    Raises:
        InputError: for an unknown name, one that needs discrete actions, or an agent without action values.
    """
    check_range("size", size, low=1)
    subject = Subject(agent, batch, size)
    suited = [name for name in PROBES if subject.discrete or name not in DISCRETE]
    for name in names or ():
        check_known("probe", name, PROBES)
        if name not in suited:
            raise InputError(
                f"probe {name!r}: expected discrete actions, {type(agent).__name__} has continuous ones"
            )
    return {name: PROBES[name](subject).detach() for name in (suited if names is None else names)}


def _implicit(subject: Subject) -> Implicit:
    """Parts of R per transition and unit of eta sigma^2, for small eta."""
    data, cross, _ = subject.grams
    eta = STEP / torch.linalg.matrix_norm(td_kernel(data, cross, subject.gamma))
    usable = eta.isfinite()
    identity = torch.eye(data.shape[-1], dtype=data.dtype, device=data.device)

    def harmless(where: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keep = where[..., None, None]
        return (
            data.where(keep, identity),
            cross.where(keep, 0),
            subject.gamma,
            eta.where(where, STEP),
        )

    usable = usable & is_stable(*harmless(usable))
    covariance = label_noise_covariance(*harmless(usable)) / eta[..., None, None]
    parts = implicit_parts(data, cross, covariance, subject.gamma)
    return Implicit(*(part.where(usable, torch.nan) / data.shape[-1] for part in parts))


def _implicit_part(part: str) -> Callable[[Subject], Tensor]:
    return lambda s: s.per_run(getattr(_implicit(s), part))


def _kare(s: Subject) -> Tensor:
    rows = s.spaced(KARE_ROWS)
    action = s.batch.action[:, rows] if s.discrete else None
    kernel = last_layer_gram(s.features[..., rows, :], action)
    ridge = KARE_RIDGE * kernel.diagonal(dim1=-2, dim2=-1).mean(-1) / kernel.shape[-1]
    target = s.spread(s.target[:, rows]).expand(kernel.shape[:-1])
    return s.per_run(kare(kernel, target, ridge.where(ridge > 0, 1.0)))


def _agreement(s: Subject) -> Tensor:
    return other_runs(disagreement(s.greedy) if s.discrete else action_distance(s.greedy), s.group)


def _calibration(part: str) -> Callable[[Subject], Tensor]:
    def of_group(s: Subject) -> Tensor:
        result = torch.full_like(s.group, torch.nan, dtype=torch.float64)
        for group in s.group.unique():
            runs = s.group == group
            found = calibration(s.greedy[runs], s.batch.action[runs][0], s.agent.spec.n_actions)
            result[runs] = getattr(found, part)
        return result

    return of_group


def _shift(s: Subject) -> Tensor:
    rows = s.spaced(s.batch.reward.shape[1])
    n_clusters = min(CLUSTERS, len(rows))
    cluster = nearest_center(s.states(rows)[:1], n_clusters).expand_as(
        s.greedy
    )  # the rows are those of every run
    return action_shift(s.greedy, s.batch.action, cluster, s.agent.spec.n_actions, n_clusters).total


def _cka(s: Subject) -> Tensor:
    pairs = cka_matrix(
        s.features.unbind(0), min(CKA_ROWS, s.features.shape[-2])
    )  # [R, R] or [E, R, R]
    return s.per_run(other_runs(pairs, s.group).movedim(-1, 0))


def _sensitivity(part: str) -> Callable[[Subject], Tensor]:
    def mean(s: Subject) -> Tensor:
        rows = s.spaced(STATES)
        return s.per_run(getattr(sensitivity(s.state_values(rows), s.states(rows)), part))

    return mean


def _flip(s: Subject) -> Tensor:
    found = flip_radius(s.action_values, s.states(s.spaced(STATES)))
    return found.relative.double().median(-1).values


def _alignment(s: Subject) -> Tensor:
    if len(s.weights) < 2:
        return torch.full_like(s.group, torch.nan, dtype=torch.float64)
    return s.per_run(layer_alignment(s.weights))


PROBES: dict[str, Callable[[Subject], Tensor]] = {
    "kernel/min_eig": lambda s: s.per_run(min_eigenvalue(s.grams[0])),
    "kernel/change": lambda s: s.per_run(kernel_change(s.grams[0], s.grams[2])),
    "kernel/kare": _kare,  # of the head's kernel and greedy TD targets
    "implicit/td": _implicit_part("total"),
    "implicit/supervised": _implicit_part("supervised"),
    "implicit/coadaptation": _implicit_part("coadaptation"),
    "seem/eigenvalue": lambda s: s.per_run(seem_eigenvalue(*s.grams[:2], s.gamma)),
    "agreement/disagreement": _agreement,  # with the other seeds; of continuous actions the mean distance
    "agreement/error": _calibration("error"),  # against the data's actions
    "agreement/gap": _calibration("gap"),
    "agreement/shift": _shift,
    "cka/seeds": _cka,
    "alignment/layers": _alignment,
    "parameters/effective": lambda s: s.per_run(effective_parameters(s.weights)),  # of its matrices
    "lipschitz/at": _sensitivity("at"),
    "lipschitz/between": _sensitivity("between"),
    "lipschitz/flip": _flip,  # median relative length
    "classes/ratio": lambda s: (
        class_variance(s.features, s.batch.action, s.agent.spec.n_actions).ratio
    ),
}
# what has no meaning for continuous actions
DISCRETE = frozenset(
    ["agreement/error", "agreement/gap", "agreement/shift", "lipschitz/flip", "classes/ratio"]
)
