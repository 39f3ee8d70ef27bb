"""The run axis: which seeds and which hyper-parameter values are trained side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rlop.config.checks import check_range, nearest
from rlop.config.schema import change, swept_fields
from rlop.types import InputError

Variants: TypeAlias = Mapping[str, Mapping[str, float]]  # name -> hyper-parameter -> value


class SweptOptions:
    """Base of options whose numbers may differ between runs, such as an agent's `target_noise`."""

    # Fields that take a number, or a list to train side by side.
    swept: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Runs:
    """R runs: one entry per run in every field."""

    seeds: tuple[int, ...]
    # hyper-parameter -> one value per run, constant ones as well
    values: Mapping[str, tuple[float, ...]]
    # values that distinguish the runs: variant, swept values, seed
    hparams: tuple[dict[str, int | float | str], ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    def tensor(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Return one hyper-parameter as a float tensor `[R]`."""
        return torch.tensor(self.values[name], dtype=torch.float32, device=device)

    def find(self, run: int | str | None) -> int:
        """Return the index of a run.

        Args:
            run: its index or label; None is the only one there is.
        Raises:
            InputError: for a run that is not there, or None among several.
        """
        count = len(self)
        if run is None and count == 1:
            return 0
        if isinstance(run, str) and run in self.labels:
            return self.labels.index(run)
        index = int(run) if isinstance(run, Integral) and not isinstance(run, bool) else -1
        if 0 <= index < count:
            return index

        hint = nearest(run if isinstance(run, str) else "", self.labels)
        shown = " ".join(repr(run).split())[:60]
        raise InputError(f"run = {shown}: expected 0 to {count - 1}, or a label{hint}")

    def one(self, run: int) -> Runs:
        """Return a single run as runs of their own."""
        return Runs(
            seeds=(self.seeds[run],),
            values={name: (values[run],) for name, values in self.values.items()},
            hparams=(self.hparams[run],),
            labels=(self.labels[run],),
        )


def seed_list(seeds: int | Sequence[int]) -> list[int]:
    """Return the seeds: `4` means 0, 1, 2, 3; a list stays as it is.

    Raises:
        InputError: for no seeds, a negative seed, one that is not a whole number, or duplicates.
    """
    listed: list[int] = []
    if isinstance(seeds, Integral) and not isinstance(seeds, bool):
        listed = list(range(int(seeds)))
    elif isinstance(seeds, (Sequence, np.ndarray)) and not isinstance(seeds, str):
        listed = list(seeds)

    are_whole = all(isinstance(seed, Integral) for seed in listed)
    has_duplicates = len(set(listed)) != len(listed)
    if not listed or not are_whole or min(listed) < 0 or has_duplicates:
        raise InputError(
            f"seeds = {seeds}: expected a number of at least 1 or a list of different seeds >= 0"
        )
    return [int(seed) for seed in listed]


def expand(
    hyper: Mapping[str, float | Sequence[float]],
    seeds: int | Sequence[int] = 1,
    variants: Variants | None = None,
) -> Runs:
    """Combine variants, the values of every list in `hyper`, and seeds; the seed varies fastest.

    Args:
        hyper: hyper-parameter -> number, or list of numbers to run side by side.
        seeds: see `seed_list`.
        variants: name -> values that replace those of `hyper` in this variant. One that is named by
            its values, see `label`, counts as these values, as a list in `hyper` would.
    Raises:
        InputError: for a variant that names an unknown hyper-parameter, or an empty list of values.
    """
    choices = _choices(hyper)
    seeds = seed_list(seeds)

    all_seeds: list[int] = []
    all_values: dict[str, list[float]] = {name: [] for name in choices}
    all_hparams: list[dict[str, int | float | str]] = []
    for variant, changes in (variants or {"": {}}).items():
        _check_names(variant, changes, choices)
        listed = dict(choices)
        for name, value in changes.items():
            listed[name] = [value]
        swept = [name for name, numbers in listed.items() if len(numbers) > 1]

        for combination in product(*listed.values()):
            values = dict(zip(listed, combination, strict=True))
            hparams: dict[str, int | float | str] = dict(changes)
            if variant != label(changes):
                hparams = {"variant": variant} if variant else {}
            for name in swept:
                hparams[name] = values[name]

            for seed in seeds:
                all_seeds.append(seed)
                all_hparams.append({**hparams, "seed": seed})
                for name, value in values.items():
                    all_values[name].append(float(value))

    return Runs(
        seeds=tuple(all_seeds),
        values={name: tuple(numbers) for name, numbers in all_values.items()},
        hparams=tuple(all_hparams),
        labels=tuple(label(hparams) for hparams in all_hparams),
    )


def _choices(hyper: Mapping[str, float | Sequence[float]]) -> dict[str, list[float]]:
    """Return the values of each hyper-parameter as a list; reject an empty list."""
    choices = {}
    for name, value in hyper.items():
        choices[name] = list(value) if isinstance(value, Sequence) else [value]
        if not choices[name]:
            raise InputError(f"{name} = []: expected a number or a list of at least one")
    return choices


def _check_names(
    variant: str,
    changes: Mapping[str, float],
    choices: Mapping[str, list[float]],
) -> None:
    """Reject a variant that changes an unknown hyper-parameter."""
    unknown = set(changes) - set(choices)
    if unknown:
        raise InputError(
            f"variants.{variant}: unknown hyper-parameter {unknown.pop()!r}; "
            f"one of {sorted(choices)}"
        )


def expand_options(
    config: object,
    terms: Mapping[str, float | Sequence[float]],
    nested: Mapping[str, SweptOptions],
    seeds: int | Sequence[int],
    variants: Variants | None,
) -> Runs:
    """Expand an agent's configuration along the run axis.

    Args:
        config: a dataclass; `swept_of` names the fields that take a list, to train side by side.
        terms: `regularizers.<name>` or `projections.<name>` -> coefficient or radius.
        nested: name of a field -> options whose numbers may differ between runs; they become
            `<name>.<option>`.
        seeds: see `seed_list`.
        variants: see `expand`.
    Raises:
        InputError: for a variant or a nested option with an impossible value, naming it.
    """
    for name, changes in (variants or {}).items():
        _check_variant(name, changes, config)

    hyper = {**_swept_values(config), **terms}
    for name, options in nested.items():
        for key, value in _swept_values(options).items():
            hyper[f"{name}.{key}"] = value
    runs = expand(hyper, seeds, variants)

    # Variants may change nested options, so their values are checked here.
    for name, options in nested.items():
        values = {key: list(runs.values[f"{name}.{key}"]) for key in swept_of(options)}
        change(options, values, where=name)
    return runs


def swept_of(options: object) -> tuple[str, ...]:
    """Return the names of the fields that may differ between runs.

    They are the fields declared `Sweep[...]`. The attribute `swept` names those that come first in
    the runs' labels.
    """
    first: tuple[str, ...] = getattr(options, "swept", ())
    return tuple(dict.fromkeys([*first, *swept_fields(type(options))]))


def _swept_values(options: object) -> dict[str, float | Sequence[float]]:
    """Return the fields that may differ between runs, by name."""
    return {name: getattr(options, name) for name in swept_of(options)}


def _check_variant(name: str, changes: Mapping[str, float], config: object) -> None:
    """Check the values of a variant against the ranges of the configuration."""
    where = f"variants.{name}"
    options = {key: value for key, value in changes.items() if key in swept_of(config)}
    change(config, options, where)

    try:
        for key, value in changes.items():
            if isinstance(value, Sequence):
                raise InputError(f"{key} = {value}: expected one number")
            is_nested = "." in key
            is_radius = key.startswith("projections.")
            check_range(key, value, low=0 if is_nested else None, low_open=is_radius)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def label(hparams: Mapping[str, int | float | str]) -> str:
    """Return a run's name.

    For example `dr3,seed=0` for a variant, or `alpha=0.1,dr3=0.03,seed=1` for swept values.
    """
    parts = []
    for name, value in hparams.items():
        if name == "variant":
            parts.append(str(value))
        else:
            last_word = name.rsplit(".", 1)[-1]
            parts.append(f"{last_word}={value:g}")
    return ",".join(parts)


# --- tensors with one number per run


def per_run(value: Tensor, like: Tensor) -> Tensor:
    """Reshape `[R]` so that it broadcasts against `[R, ...]`."""
    return value.view(-1, *[1] * (like.ndim - 1))


def run_values(value: Tensor | float, like: Tensor) -> Tensor:
    """Return a number for all runs, or one per run, as a tensor `[R]`.

    Args:
        value: the number, or `[R]`.
        like: `[R, ...]`, whose dtype and device the tensor gets.
    """
    values = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return values.expand(like.shape[0]).clone()


def on_the_host(tensor: Tensor) -> bool:
    """Return whether reading the values is free: in eager mode on a CPU.

    Code in a graph or on a GPU must not branch on values.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
