"""Measures of representation health: pure functions of features, for our agents and any network."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import Tensor

from rlop.probes.agreement import (
    action_distance,
    action_shift,
    calibration,
    disagreement,
    nearest_center,
    other_runs,
)
from rlop.probes.alignment import layer_alignment
from rlop.probes.churn import policy_churn, value_churn
from rlop.probes.cka import CKA, cka_matrix, unbiased_hsic
from rlop.probes.coadaptation import feature_cosine, feature_dot, feature_norm, weight_norm
from rlop.probes.effective_parameters import effective_parameters
from rlop.probes.gradient_activity import inactive_fraction, layer_gradients
from rlop.probes.gradients import gradient_rows, value_function
from rlop.probes.heavy import pack
from rlop.probes.hook import probe
from rlop.probes.implicit import implicit_drift, implicit_regularizer
from rlop.probes.kernel import (
    kare,
    kernel_change,
    last_layer_gram,
    min_eigenvalue,
    ntk,
    predicted_risk,
    seem_eigenvalue,
    signal_capture_threshold,
)
from rlop.probes.learning import LearningTime, class_variance, quantile_bins
from rlop.probes.lipschitz import flip_radius, sensitivity
from rlop.probes.measure import measure
from rlop.probes.rank import (
    effective_rank,
    lyle_rank,
    participation_ratio,
    pca_rank,
    rank_measures,
    singular_values,
    srank,
    stable_rank,
)
from rlop.probes.refit import refit_error
from rlop.probes.return_gap import return_gap
from rlop.probes.trace import gauss_newton_trace, head_trace, noise_trace
from rlop.probes.units import active_neurons, dead_fraction, dormant_fraction, unit_measures
from rlop.probes.unseen import at_bound, unseen_gap

__all__ = [
    "CKA",
    "LearningTime",
    "action_distance",
    "action_shift",
    "active_neurons",
    "at_bound",
    "calibration",
    "cka_matrix",
    "class_variance",
    "dead_fraction",
    "disagreement",
    "dormant_fraction",
    "effective_parameters",
    "effective_rank",
    "feature_cosine",
    "feature_dot",
    "feature_norm",
    "flip_radius",
    "gauss_newton_trace",
    "gradient_rows",
    "head_trace",
    "implicit_drift",
    "implicit_regularizer",
    "inactive_fraction",
    "kare",
    "kernel_change",
    "last_layer_gram",
    "layer_alignment",
    "layer_gradients",
    "lyle_rank",
    "measure",
    "min_eigenvalue",
    "nearest_center",
    "noise_trace",
    "ntk",
    "other_runs",
    "pack",
    "participation_ratio",
    "pca_rank",
    "policy_churn",
    "predicted_risk",
    "probe",
    "quantile_bins",
    "rank_measures",
    "refit_error",
    "return_gap",
    "seem_eigenvalue",
    "sensitivity",
    "signal_capture_threshold",
    "singular_values",
    "srank",
    "stable_rank",
    "unbiased_hsic",
    "unit_measures",
    "unseen_gap",
    "value_churn",
    "value_function",
    "weight_norm",
]


def __getattr__(name: str) -> Callable[..., Tensor]:
    """Return `lyle_rank` for the deprecated name `feature_rank`, with a warning."""
    if name != "feature_rank":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    message = "rlop.probes.feature_rank is deprecated and will go: use rlop.probes.lyle_rank"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return lyle_rank
