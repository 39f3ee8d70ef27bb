"""Observation statistics of Stable-Baselines3's VecNormalize, read without executing its pickle."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.files import read_whole
from rlop.types import InputError


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Normalize observations for a policy that was trained on normalized ones.

        clip((obs - mean) / std, -clip, clip)

    Args:
        mean: `[*S]` float64.
        std: `[*S]` float64, sqrt(variance + epsilon).
        clip: largest absolute value.
    """

    mean: np.ndarray
    std: np.ndarray
    clip: float

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return normalized observations, `[n, *S]` to `[n, *S]` float32."""
        normalized = (obs - self.mean) / self.std
        return np.clip(normalized, -self.clip, self.clip).astype(np.float32)


def read_vecnormalize(path: Path) -> Normalizer | None:
    """Read the observation statistics of a file that `VecNormalize.save` wrote.

    Returns:
        The normalizer, or None if only rewards were normalized.

    Raises:
        InputError: for another kind of file, or statistics of dictionaries.
    """
    state = _state(path, _read_pickle(path), "VecNormalize")
    if not state.get("norm_obs", True):
        return None

    moments = _state(path, state.get("obs_rms"), "RunningMeanStd")
    mean = _array(path, "mean", moments.get("mean"))
    variance = _array(path, "var", moments.get("var"))
    epsilon = state.get("epsilon")
    clip = state.get("clip_obs")
    if mean.shape != variance.shape:
        raise InputError(f"{path}: mean {mean.shape}, var {variance.shape}, expected equal shapes")
    if not isinstance(epsilon, int | float) or not isinstance(clip, int | float):
        raise InputError(f"{path}: epsilon, clip_obs = {[epsilon, clip]}, expected two numbers")

    std = np.sqrt(variance + epsilon)
    are_finite = np.isfinite(mean).all() and np.isfinite(std).all()
    if not are_finite or not (std > 0).all():
        raise InputError(f"{path}: mean or var is not finite, or var + epsilon not positive")
    return Normalizer(mean, std, float(clip))


# ---- a reader of pickles that runs nothing


class Inert:
    """Placeholder for every class and function that a pickle names; keeps its arguments only."""

    name = ""  # of the class or function, with its module
    args: tuple[object, ...] = ()
    state: object = None

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        """Keep the arguments."""
        inert = super().__new__(cls)
        inert.args = args
        return inert

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an entry of a dictionary."""

    def append(self, value: object) -> None:
        """Ignore an entry of a list."""

    def extend(self, values: object) -> None:
        """Ignore entries of a list."""


class Reader(pickle.Unpickler):
    """Unpickler of plain values; every class or function becomes an `Inert`, without any import."""

    def find_class(self, module: str, name: str) -> type[Inert]:
        """Return a new `Inert` class without looking up the module or the name."""
        return type("Inert", (Inert,), {"name": f"{module}.{name}"})


def _read_pickle(path: Path) -> object:
    """Read a pickle into plain values and `Inert` objects."""
    try:
        data = read_whole(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read, expected the statistics of VecNormalize ({error.strerror})"
        ) from None

    try:
        return Reader(io.BytesIO(data)).load()
    except Exception as error:  # a reader of pickles can raise anything on damaged bytes
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not a pickle of VecNormalize: {reason}") from error


def _state(path: Path, value: object, name: str) -> dict[str, object]:
    """Return the attributes of a pickled object whose class has this name, in any module."""
    holds = type(value).__name__
    if isinstance(value, Inert):
        holds = value.name
        if holds.split(".")[-1] == name and isinstance(value.state, dict):
            return value.state
    raise InputError(f"{path}: holds {holds}, expected {name} of stable_baselines3")


def _array(path: Path, key: str, value: Any) -> np.ndarray:
    """Rebuild a float array from its shape, dtype and bytes.

    Pickles of protocol 5 keep them as the arguments of a function, older ones as a state.
    """
    try:
        if value.name.endswith("._frombuffer"):
            content, dtype, shape, order = value.args
        else:
            _, shape, dtype, fortran, content = value.state
            order = "F" if fortran else "C"

        kind, byte_order = dtype.args[0], dtype.state[1]
        if kind not in ("f4", "f8") or byte_order not in "<>|=":
            raise TypeError(f"dtype {byte_order}{kind}")
        flat = np.frombuffer(content, byte_order + kind)
        return flat.reshape(shape, order=order).astype(np.float64)
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: obs_rms.{key} is no array of floats: {error}") from error
