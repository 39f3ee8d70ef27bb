"""Observation statistics of Stable-Baselines3's VecNormalize, read from its pickle without executing it."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlop.types import InputError

LARGEST = 64 * 2**20  # bytes; statistics of a vector take thousands


@dataclass(frozen=True, eq=False)
class Normalizer:
    """What a policy that was trained on normalised observations sees: clip((obs - mean) / std, -clip, clip).

    Args:
        mean: `[*S]` float64.
        std: `[*S]` float64, sqrt(variance + epsilon).
        clip: largest absolute value.
    """

    mean: np.ndarray
    std: np.ndarray
    clip: float

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """`[n, *S]` to `[n, *S]` float32."""
        return np.clip((obs - self.mean) / self.std, -self.clip, self.clip).astype(np.float32)


class Inert:
    """Stands for every class and function a pickle names; takes whatever it is given and does nothing with it."""

    name = ""
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Keep the arguments."""
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignored."""

    def append(self, value: Any) -> None:
        """Ignored."""

    def extend(self, values: Any) -> None:
        """Ignored."""


class Reader(pickle.Unpickler):
    """Builds a pickle's plain values; every class or function it names becomes an `Inert`, and nothing is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """A new `Inert` class: neither the module nor the name is looked up anywhere."""
        return type("Inert", (Inert,), {"name": f"{module}.{name}"})


def read_vecnormalize(path: Path) -> Normalizer | None:
    """The observation statistics of a `vecnormalize.pkl`.

    A pickle is a program that may call anything it can name. This one is run by a reader for which every name is an
    inert stand-in: nothing is imported, no class is made, no function called, and arrays are rebuilt from the bytes
    that stand in the file.

    Args:
        path: file written by `VecNormalize.save`.

    Returns:
        None when it normalised rewards alone.

    Raises:
        InputError: not such a file, or statistics of dictionaries.
    """
    data = path.read_bytes()
    if len(data) > LARGEST:
        raise InputError(
            f"{path}: {len(data)} bytes, expected the statistics of VecNormalize, at most {LARGEST}"
        )
    try:
        found = Reader(io.BytesIO(data)).load()
    except Exception as error:  # whatever broken bytes may do to a reader of pickles
        raise InputError(
            f"{path}: not a pickle of VecNormalize: {type(error).__name__}: {error}"
        ) from error
    state = _state(path, found, "VecNormalize")
    if not state.get("norm_obs", True):
        return None
    rms = _state(path, state.get("obs_rms"), "RunningMeanStd")
    mean, variance = (_array(path, key, rms.get(key)) for key in ("mean", "var"))
    numbers = [state.get(key) for key in ("epsilon", "clip_obs")]
    if (
        not all(isinstance(number, int | float) for number in numbers)
        or mean.shape != variance.shape
    ):
        shapes = f"mean {mean.shape}, var {variance.shape}"
        raise InputError(
            f"{path}: {shapes}, epsilon, clip_obs = {numbers}, expected equal shapes and two numbers"
        )
    std = np.sqrt(variance + numbers[0])
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(f"{path}: mean or var is not finite, or var + epsilon not positive")
    return Normalizer(mean, std, float(numbers[1]))  # type: ignore[arg-type]


def _state(path: Path, found: Any, name: str) -> dict[str, Any]:
    """The attributes of an object that was pickled, by the last part of its class's name."""
    if (
        not isinstance(found, Inert)
        or found.name.split(".")[-1] != name
        or not isinstance(found.state, dict)
    ):
        what = found.name if isinstance(found, Inert) else type(found).__name__
        raise InputError(f"{path}: holds {what}, expected {name} of stable_baselines3")
    return found.state


def _array(path: Path, key: str, found: Any) -> np.ndarray:
    """A float array from its shape, dtype and bytes, which stand elsewhere in pickles of protocol 5."""
    try:
        if found.name.endswith("._frombuffer"):
            content, dtype, shape, order = found.args
        else:
            _, shape, dtype, fortran, content = found.state
            order = "F" if fortran else "C"
        kind, byte_order = dtype.args[0], dtype.state[1]
        if kind not in ("f4", "f8") or byte_order not in "<>|=":
            raise TypeError(f"dtype {byte_order}{kind}")
        return (
            np.frombuffer(content, byte_order + kind).reshape(shape, order=order).astype(np.float64)
        )
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: obs_rms.{key} is no array of floats: {error}") from error
