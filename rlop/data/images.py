"""Images with their channels first, as convolutions read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlop.data.changes import recorded
from rlop.data.dataset import Dataset
from rlop.data.joined import Joined
from rlop.types import InputError, Spec

CHANNELS_FIRST = (2, 0, 1)  # of (height, width, channels)


@recorded
def transpose(data: Dataset, axes: Sequence[int] = CHANNELS_FIRST) -> Dataset:
    """Reorder the axes of every observation; by default channels last become channels first.

    The observations are views of the old ones. The order is stored in `spec.obs_axes`, so that an
    evaluation and a deployed policy do the same.

    Args:
        data: with observations of several axes.
        axes: as `numpy.transpose` takes them, for one observation.

    Raises:
        InputError: no such axes, observations that are transposed or normalized already, or stacked
            frames, which have their channels first.
    """
    spec, order = data.spec, tuple(axes)
    where = f"{data.name}: transpose"
    if sorted(order) != list(range(len(spec.obs_shape))):
        raise InputError(
            f"{where}: axes = {list(order)}: expected an order of the axes of observations "
            f"{spec.obs_shape}"
        )
    if spec.obs_axes:
        raise InputError(f"{where}: observations are transposed already, by {list(spec.obs_axes)}")
    if spec.obs_normalizer is not None:
        raise InputError(f"{where}: expected before normalize_obs")

    changed = replace(spec, obs_axes=order, obs_shape=tuple(spec.obs_shape[i] for i in order))
    return replace(
        data,
        name=f"{data.name}+transposed",
        obs=_views(data.obs, changed, where),
        next_obs=_views(data.next_obs, changed, where),
        spec=changed,
    )


def transposed(obs: np.ndarray, spec: Spec) -> np.ndarray:
    """Reorder the axes of observations `[n, ...]` of the environment as the data's were."""
    if not spec.obs_axes:
        return obs
    return obs.transpose(0, *[axis + 1 for axis in spec.obs_axes])


def _views(obs: np.ndarray, spec: Spec, where: str) -> np.ndarray:
    """Transpose a column without a copy."""
    if isinstance(obs, Joined):
        parts = [_views(part, spec, where) for part in obs.parts]
        return Joined(tuple(parts))
    if not isinstance(obs, np.ndarray):
        raise InputError(f"{where}: stacked frames have their channels first")
    return transposed(obs, spec)
