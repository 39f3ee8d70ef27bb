"""The workshop's 51 abstracts: what each claims, where it lives here, and which experiments test it.

"Over-parameterization: Pitfalls and Opportunities", a workshop at ICML 2021. No verdict is written down here: it is
computed from the last run (`scripts/reproduce.py`).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rlop.experiments.catalogue.posters import POSTERS
from rlop.experiments.catalogue.posters_two import POSTERS_TWO
from rlop.experiments.catalogue.row import KINDS, Row
from rlop.experiments.catalogue.talks import TALKS
from rlop.types import InputError

__all__ = ["CATALOGUE", "KINDS", "PENDING", "SLOW", "Row", "available", "experiment_names", "resolve"]

CATALOGUE: tuple[Row, ...] = TALKS + POSTERS + POSTERS_TWO

# Names that the catalogue promises and that are still being written; a test skips these and no others.
PENDING = frozenset(
    """
    basis_pursuit disagreement distributed_regression flip_radius flip_rate fourier_features imbalanced_gmm
    implicit_rank implicit_regularizer label_corruption momentum polynomial_kare siblings single_neuron
    strong_weak_features support_vectors two_moons
    rlop.experiments.distributed_regression rlop.experiments.single_neuron rlop.experiments.strong_weak_features
    rlop.experiments.support_vectors rlop.experiments.basis_pursuit
    rlop.agents.NeuralTD rlop.nets.FactorizedLinear rlop.nets.LinearStack rlop.nets.MaskedLinear
    rlop.nets.masks.intersection rlop.nets.masks.jaccard rlop.nets.masks.magnitude_masks
    rlop.nets.masks.rewind_weights_ rlop.nets.masks.union rlop.nets.masks.width_at_equal_count
    rlop.nets.mup.abc_exponent rlop.nets.mup.coordinate_check
    rlop.noise.label_noise rlop.optim.RMD rlop.optim.SGD rlop.optim.SMD rlop.td.adjusted_logits
    rlop.probes.agreement.action_shift rlop.probes.agreement.calibration rlop.probes.agreement.disagreement
    rlop.probes.alignment.layer_alignment rlop.probes.cka rlop.probes.effective_parameters
    rlop.probes.implicit.implicit_regularizer rlop.probes.kernel.kare rlop.probes.kernel.kernel_change
    rlop.probes.kernel.min_eigenvalue rlop.probes.kernel.signal_capture_threshold
    rlop.probes.learning.LearningTime rlop.probes.learning.class_variance rlop.probes.lipschitz.flip_radius
    rlop.probes.lipschitz.sensitivity rlop.probes.lipschitz.state_gradient
    rlop.regularizers.path_norm rlop.regularizers.pc_share rlop.regularizers.spectral_decoupling
    """.split()
)

# Experiments that take longer than some ten seconds: left out by `reproduce.py fast`, marked slow in the tests.
SLOW = frozenset({"dr3_backups", "dr3_remedy", "mc_cures_rank"})


def experiment_names() -> list[str]:
    """Every experiment that the catalogue names, once, in the order of the abstracts."""
    return list(dict.fromkeys(name for row in CATALOGUE for name in row.experiments))


def available() -> list[str]:
    """Those of `experiment_names` that are there."""
    return [name for name in experiment_names() if find_spec(f"rlop.experiments.{name}") is not None]


def resolve(dotted: str) -> Any:
    """The module, class or function behind a dotted name.

    Args:
        dotted: e.g. `rlop.projections.max_norm`.
    Raises:
        InputError: when there is no such thing.
    """
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[end:]:
                found = getattr(found, name)
            return found
        except AttributeError:
            break
    raise InputError(f"catalogue: {dotted!r} is not there")
