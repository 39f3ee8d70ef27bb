"""The run axis: which seeds and which hyper-parameter values stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from rlop.config.checks import check_range
from rlop.config.schema import change
from rlop.types import InputError


class SweptOptions:
    """Base of options with numbers of their own for each run, as `target_noise` of an agent."""

    swept: ClassVar[
        tuple[str, ...]
    ] = ()  # fields that take a number, or a list to train side by side


class ConfigWithSweeps(Protocol):
    """Options of an agent."""

    swept: ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class Runs:
    """R runs: one entry per run in every field."""

    seeds: tuple[int, ...]
    values: Mapping[
        str, tuple[float, ...]
    ]  # hyper-parameter -> one value per run, also the constant ones
    hparams: tuple[dict[str, Any], ...]  # what tells the runs apart: seed, variant, swept values
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    def tensor(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """One hyper-parameter as a float tensor `[R]`."""
        return torch.tensor(self.values[name], dtype=torch.float32, device=device)


def seed_list(seeds: int | Sequence[int]) -> list[int]:
    """Return the seeds: `4` means 0, 1, 2, 3; a list stays as it is.

    Raises:
        InputError: for no seeds, a negative one, or the same one twice.
    """
    listed: list[Any] = []
    if isinstance(seeds, Integral) and not isinstance(seeds, bool):
        listed = list(range(int(seeds)))
    elif isinstance(seeds, (Sequence, np.ndarray)) and not isinstance(seeds, str):
        listed = list(seeds)

    whole = all(isinstance(seed, Integral) for seed in listed)
    if not listed or not whole or min(listed) < 0 or len(set(listed)) != len(listed):
        raise InputError(
            f"seeds = {seeds}: expected a number of at least 1 or a list of different seeds >= 0"
        )
    return [int(seed) for seed in listed]


def expand(
    hyper: Mapping[str, float | Sequence[float]],
    seeds: int | Sequence[int] = 1,
    variants: Mapping[str, Mapping[str, float]] | None = None,
) -> Runs:
    """All combinations: variants x values of every list in `hyper` x seeds, the seed varying
    fastest.

    Args:
        hyper: hyper-parameter -> number, or list of numbers to run side by side.
        seeds: see `seed_list`.
        variants: name -> values that replace those of `hyper` in this variant.
    Raises:
        InputError: for a variant that names an unknown hyper-parameter, or an empty list of values.
    """
    choices = {name: list(v) if isinstance(v, (list, tuple)) else [v] for name, v in hyper.items()}
    for name, listed in choices.items():
        if not listed:
            raise InputError(f"{name} = []: expected a number or a list of at least one")
    rows: list[dict[str, Any]] = []
    for variant, changes in (variants or {"": {}}).items():
        unknown = set(changes) - set(choices)
        if unknown:
            raise InputError(
                f"variants.{variant}: unknown hyper-parameter {unknown.pop()!r}; "
                f"one of {sorted(choices)}"
            )
        own = {
            name: [changes[name]] if name in changes else listed for name, listed in choices.items()
        }
        swept = [name for name, listed in own.items() if len(listed) > 1]
        for combination in product(*own.values()):
            value = dict(zip(own, combination, strict=True))
            told = {"variant": variant} if variant else {}
            told |= {name: value[name] for name in swept}
            rows += [
                {"value": value, "hparams": {**told, "seed": seed}, "seed": seed}
                for seed in seed_list(seeds)
            ]
    return Runs(
        seeds=tuple(row["seed"] for row in rows),
        values={name: tuple(float(row["value"][name]) for row in rows) for name in choices},
        hparams=tuple(row["hparams"] for row in rows),
        labels=tuple(label(row["hparams"]) for row in rows),
    )


def expand_options(
    config: ConfigWithSweeps,
    terms: Mapping[str, float | Sequence[float]],
    nested: Mapping[str, SweptOptions],
    seeds: int | Sequence[int],
    variants: Mapping[str, Mapping[str, float]] | None,
) -> Runs:
    """Expand an agent's configuration along the run axis.

    Args:
        config: a dataclass; its fields in `swept` take a number, or a list to train side by side.
        terms: `regularizers.<name>` or `projections.<name>` -> coefficient or radius.
        nested: name of a field -> options with numbers of their own; they become `<name>.<option>`.
        seeds: see `seed_list`.
        variants: see `expand`.
    Raises:
        InputError: for a variant or a nested option with an impossible value, naming it.
    """
    for name, changes in (variants or {}).items():
        _check_variant(name, changes, config)

    hyper = {name: getattr(config, name) for name in config.swept}
    hyper |= terms
    for name, options in nested.items():
        hyper |= {f"{name}.{key}": getattr(options, key) for key in options.swept}

    runs = expand(hyper, seeds, variants)
    for name, options in nested.items():
        values = {key: list(runs.values[f"{name}.{key}"]) for key in options.swept}
        change(options, values, where=name)
    return runs


def _check_variant(name: str, changes: Mapping[str, float], config: ConfigWithSweeps) -> None:
    """Hold the values of a variant to the ranges of the configuration."""
    where = f"variants.{name}"
    change(config, {key: value for key, value in changes.items() if key in config.swept}, where)
    try:
        for key, value in changes.items():
            is_radius = key.startswith("projections.")
            check_range(key, value, low=0 if "." in key else None, low_open=is_radius)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def label(hparams: Mapping[str, Any]) -> str:
    """A run's name, e.g. `dr3,seed=0` for a variant or `alpha=0.1,dr3=0.03,seed=1` for swept
    values.
    """
    parts = [
        str(v) if k == "variant" else f"{k.rsplit('.', 1)[-1]}={v:g}" for k, v in hparams.items()
    ]
    return ",".join(parts)


def per_run(value: Tensor, like: Tensor) -> Tensor:
    """Reshape `[R]` so that it broadcasts against `[R, ...]`."""
    return value.view(-1, *[1] * (like.ndim - 1))


def run_values(value: Tensor | float, like: Tensor) -> Tensor:
    """A number for all runs, or one per run, as a tensor `[R]` of the dtype and on the device of
    `like` `[R, ...]`.
    """
    return (
        torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(like.shape[0]).clone()
    )


def on_the_host(tensor: Tensor) -> bool:
    """Whether a look at the values is free: eager on a CPU.

    In a graph or on a GPU nothing may branch on them.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
