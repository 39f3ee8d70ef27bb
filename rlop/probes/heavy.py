"""The heavier probes of an agent, by name, on few rows to limit their cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from rlop.config.checks import check_known, check_range
from rlop.nets.masks import magnitude_masks
from rlop.probes.agreement import (
    Calibration,
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
from rlop.probes.gradients import guarded
from rlop.probes.implicit import Implicit, implicit_parts, is_stable, label_noise_covariance
from rlop.probes.kernel import (
    kare,
    kernel_change,
    last_layer_gram,
    min_eigenvalue,
    seem_eigenvalue,
    signal_capture_threshold,
    td_kernel,
)
from rlop.probes.learning import class_variance
from rlop.probes.lipschitz import Sensitivity, flip_radius, sensitivity
from rlop.probes.model import AgentView, ValueAgent
from rlop.probes.trace import head_trace
from rlop.types import Batch, InputError

# Rows and sizes are ours: large enough for a stable number, small enough to run during training.
KARE_ROWS = 256
KARE_RIDGE = 1e-3  # in units of the kernel's mean eigenvalue
CKA_ROWS = 256  # rows of a minibatch
STEP = 0.01  # step size of the implicit regularizer's noisy TD, over the norm of its kernel
CLUSTERS = 16  # clusters of states
MASK_DENSITY = 0.2  # of the masks whose overlap is measured
STATES = 64  # at which gradients with respect to the state are taken

Probe: TypeAlias = Callable[[AgentView], Tensor]  # -> [R]


def pack(
    agent: ValueAgent,
    batch: Batch,
    names: Sequence[str] | None = None,
    size: int = 16,
) -> dict[str, Tensor]:
    """Compute heavier probes of every run of an agent; the agent is not changed.

    Gradients of `2 size` values of every run are in memory at once: 2 size R E times the parameters
    of one network, in its type.

    `lipschitz/at` and `lipschitz/between` are slopes per unit of what the network reads: of images
    as bytes, our networks read pixels between 0 and 1. A network that is not ours and divides
    bytes by 255 itself has slopes per raw unit, 1/255 of these. No other probe has such a unit.

    Args:
        agent: an agent with action values, for discrete or continuous actions.
        batch: `[R, B, ...]`, the same rows for every run and at every step, preferably held out.
        names: keys of `PROBES`; None takes all that apply to the agent.
        size: n of `kernel/min_eig`, `kernel/change`, `implicit/*` and `seem/eigenvalue`, whose
            values depend on it: at most this number of different (s, a), spread over the batch.
    Returns:
        name -> `[R]` float64, averaged over critics. NaN means that a quantity does not exist: no
        other seed to agree with, an unstable TD for `implicit/*`, a network without two adjacent
        matrices for `alignment/layers`.
    Raises:
        InputError: for an unknown name, one that needs discrete actions, or an agent without action
            values.
    """
    check_range("size", size, low=1)
    view = AgentView(agent, batch, size)

    if names is None:
        names = [name for name in PROBES if view.discrete or name not in DISCRETE]
    check_probes(names, view.discrete, type(agent).__name__)

    return {name: PROBES[name](view).detach() for name in names}


def check_probes(names: Sequence[str], discrete: bool, owner: str) -> None:
    """Refuse an unknown probe, or one that has no meaning for continuous actions.

    Args:
        names: keys of `PROBES`.
        discrete: whether actions are.
        owner: who has the actions, for messages.
    Raises:
        InputError: naming the probe.
    """
    for name in names:
        check_known("probe", name, PROBES)
        if name in DISCRETE and not discrete:
            raise InputError(
                f"probe {name!r}: expected discrete actions, {owner} has continuous ones"
            )


# --- kernels ---


def _min_eigenvalue(view: AgentView) -> Tensor:
    data, _, _ = view.grams
    return view.per_run(min_eigenvalue(data))


def _kernel_change(view: AgentView) -> Tensor:
    data, _, initial = view.grams
    return view.per_run(kernel_change(data, initial))


def _head_kernel(view: AgentView) -> tuple[Tensor, Tensor]:
    """Return the kernel of the head at a few rows, `[..., n, n]`, and a ridge for it, `[...]`."""
    rows = view.spaced(KARE_ROWS)
    action = view.like_features(view.batch.action[:, rows]) if view.discrete else None
    kernel = last_layer_gram(view.features[..., rows, :], action)

    # Features that are all zero give no scale for the ridge; then any ridge works.
    ridge = KARE_RIDGE * kernel.diagonal(dim1=-2, dim2=-1).mean(-1) / kernel.shape[-1]
    return kernel, ridge.where(ridge > 0, 1.0)


def _kare(view: AgentView) -> Tensor:
    """KARE of the head's kernel and greedy TD targets."""
    kernel, ridge = _head_kernel(view)
    target = view.like_features(view.target[:, view.spaced(KARE_ROWS)])
    return view.per_run(kare(kernel, target, ridge))


def _captured(view: AgentView) -> Tensor:
    """Directions of the head's kernel that the rows suffice to learn, sum_k t_k / (t_k + theta).

    theta is the signal capture threshold.
    """
    kernel, ridge = _head_kernel(view)
    n = kernel.shape[-1]
    t = guarded(torch.linalg.eigvalsh, kernel).clamp_min(0) / n

    # A broken run has no spectrum: its ridge must be positive all the same.
    finite = t.isfinite().all(-1)
    theta = signal_capture_threshold(t.nan_to_num(), n, ridge.where(finite, 1.0))
    captured = (t / (t + theta.unsqueeze(-1))).sum(-1)
    return view.per_run(captured.where(finite, torch.nan))


def _trace(view: AgentView) -> Tensor:
    """Trace of the Gauss-Newton matrix, mean |grad Q|^2: what label noise penalizes."""
    data, _, _ = view.grams
    return view.per_run(data.diagonal(dim1=-2, dim2=-1).mean(-1))


def _head_trace(view: AgentView) -> Tensor:
    """The head's part of that trace."""
    return view.per_run(head_trace(view.features, "head.bias" in view.parameters))


def _seem(view: AgentView) -> Tensor:
    data, cross, _ = view.grams
    return view.per_run(seem_eigenvalue(data, cross, view.gamma))


def _implicit(view: AgentView) -> Implicit:
    """Parts of R per transition and unit of eta sigma^2, for small eta; NaN for unstable TD."""
    data, cross, _ = view.grams
    gamma = view.gamma
    eta = STEP / torch.linalg.matrix_norm(td_kernel(data, cross, gamma))

    # Unusable kernels would raise for the whole stack: replace them by harmless ones, first where
    # something is not finite, then where TD is unstable.
    def harmless(usable: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keep = usable[..., None, None]
        identity = torch.eye(data.shape[-1], dtype=data.dtype, device=data.device)
        return (
            data.where(keep, identity),
            cross.where(keep, 0),
            gamma,
            eta.where(usable, STEP),
        )

    usable = eta.isfinite()
    usable = usable & is_stable(*harmless(usable))
    covariance = label_noise_covariance(*harmless(usable)) / eta[..., None, None]
    parts = implicit_parts(data, cross, covariance, gamma)

    n = data.shape[-1]
    return Implicit(*(part.where(usable, torch.nan) / n for part in parts))


def _implicit_total(view: AgentView) -> Tensor:
    return view.per_run(_implicit(view).total)


def _implicit_supervised(view: AgentView) -> Tensor:
    return view.per_run(_implicit(view).supervised)


def _implicit_coadaptation(view: AgentView) -> Tensor:
    return view.per_run(_implicit(view).coadaptation)


# --- agreement between seeds, and with the data ---


def _disagreement(view: AgentView) -> Tensor:
    """Disagreement with the other seeds; the mean distance of continuous actions."""
    pairs = disagreement(view.greedy) if view.discrete else action_distance(view.greedy)
    return other_runs(pairs, view.group)


def _calibration(part: Callable[[Calibration], Tensor]) -> Probe:
    """Return the probe of one part of the calibration of every group of seeds."""

    def calibration_part(view: AgentView) -> Tensor:
        values = torch.full_like(view.group, torch.nan, dtype=torch.float64)
        for group in view.group.unique():
            runs = view.group == group
            label = view.batch.action[runs][0]  # the same in every run
            values[runs] = part(calibration(view.greedy[runs], label, view.n_actions))
        return values

    return calibration_part


def _shift(view: AgentView) -> Tensor:
    rows = view.spaced(view.batch.reward.shape[1])
    n_clusters = min(CLUSTERS, len(rows))

    # The rows are the same in every run, so all use the clusters of one.
    cluster = nearest_center(view.states(rows)[:1], n_clusters).expand_as(view.greedy)
    shift = action_shift(view.greedy, view.batch.action, cluster, view.n_actions, n_clusters)
    return shift.total


def _cka(view: AgentView) -> Tensor:
    batch_size = min(CKA_ROWS, view.features.shape[-2])
    pairs = cka_matrix(view.features.unbind(0), batch_size)  # [R, R] or [E, R, R]
    return view.per_run(other_runs(pairs, view.group).movedim(-1, 0))


def _mask_overlap(view: AgentView) -> Tensor:
    """Overlap |both| / |either| of the largest fifth of the weights with the other seeds'."""
    matrices = {name: p for name, p in view.parameters.items() if p.ndim >= view.lead + 2}
    masks = magnitude_masks(matrices, MASK_DENSITY)
    flat = torch.cat([mask.flatten(1) for mask in masks.values()], dim=1).double()

    both = flat @ flat.mT
    kept = flat.sum(-1)
    overlap = both / (kept + kept.unsqueeze(-1) - both)
    broken = torch.stack([p.flatten(1).isnan().any(-1) for p in matrices.values()]).any(0)
    overlap[broken] = torch.nan
    return other_runs(overlap, view.group)


# --- layers and states ---


def _alignment(view: AgentView) -> Tensor:
    if len(view.weights) < 2:
        return torch.full_like(view.group, torch.nan, dtype=torch.float64)
    return view.per_run(layer_alignment(view.weights))


def _effective_parameters(view: AgentView) -> Tensor:
    return view.per_run(effective_parameters(view.weights))


def _sensitivity(part: Callable[[Sensitivity], Tensor]) -> Probe:
    """Return the probe of one part of the sensitivity to the state."""

    def sensitivity_part(view: AgentView) -> Tensor:
        rows = view.spaced(STATES)
        return view.per_run(part(sensitivity(view.state_values(rows), view.states(rows))))

    return sensitivity_part


def _flip(view: AgentView) -> Tensor:
    """Median relative length of the step that flips a greedy action."""
    flips = flip_radius(view.q_values, view.states(view.spaced(STATES)))
    return flips.relative.double().median(-1).values


def _class_ratio(view: AgentView) -> Tensor:
    label = view.like_features(view.batch.action)
    return view.per_run(class_variance(view.features, label, view.n_actions).ratio)


PROBES: dict[str, Probe] = {
    "kernel/min_eig": _min_eigenvalue,
    "kernel/change": _kernel_change,
    "kernel/kare": _kare,
    "kernel/captured": _captured,
    "trace/gauss_newton": _trace,
    "trace/head": _head_trace,
    "implicit/td": _implicit_total,
    "implicit/supervised": _implicit_supervised,
    "implicit/coadaptation": _implicit_coadaptation,
    "seem/eigenvalue": _seem,
    "agreement/disagreement": _disagreement,
    "agreement/error": _calibration(lambda parts: parts.error),
    "agreement/gap": _calibration(lambda parts: parts.gap),
    "agreement/shift": _shift,
    "cka/seeds": _cka,
    "masks/seeds": _mask_overlap,
    "alignment/layers": _alignment,
    "parameters/effective": _effective_parameters,
    "lipschitz/at": _sensitivity(lambda parts: parts.at),
    "lipschitz/between": _sensitivity(lambda parts: parts.between),
    "lipschitz/flip": _flip,
    "classes/ratio": _class_ratio,
}

# These have no meaning for continuous actions.
DISCRETE = frozenset(
    ["agreement/error", "agreement/gap", "agreement/shift", "lipschitz/flip", "classes/ratio"]
)

# These compare the runs of a training, and are NaN for one alone.
BETWEEN_RUNS = frozenset(["agreement/disagreement", "cka/seeds", "masks/seeds"])
