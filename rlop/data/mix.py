"""Mix data sets: batches draw a source by its weight, and then one of its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from numbers import Real

import numpy as np

from rlop.config.checks import show
from rlop.data.changes import dropped_of
from rlop.data.dataset import Dataset
from rlop.data.joined import Joined, Mixture
from rlop.data.mapped import concatenate
from rlop.types import InputError, Spec

# Fields of a spec that one source may leave unknown where another names them.
MAY_BE_UNKNOWN = ("env_id", "env_kwargs")


def mix(datasets: Sequence[Dataset], weights: Sequence[float] | None = None) -> Dataset:
    """Mix data sets into one, whose observations are not copied.

    Every row of a batch is from source k with probability w_k / sum of w, and any row of that
    source is as likely as any other. Episodes stay as they are in the sources.

    Args:
        datasets: of one-step rows, alike in everything that their specs say.
        weights: w, one for each; by default the numbers of rows, so that all rows are equally
            likely.

    Raises:
        InputError: no data sets, weights of another number or not above 0, specs that differ, rows
            that span several steps, or a mixture among them.
    """
    if not datasets:
        raise InputError("mix: no sources, expected at least one")
    if weights is None:
        weights = [float(len(data)) for data in datasets]
    if len(weights) != len(datasets):
        raise InputError(f"mix: {len(weights)} weights, expected {len(datasets)}")
    for data, weight in zip(datasets, weights):
        is_number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise InputError(
                f"mix: weight of {data.name} = {show(weight)}: expected a number above 0"
            )
        if data.discount is not None or data.extra:
            raise InputError(f"mix: {data.name}: expected the rows of single steps, without backup")
        if data.mixture is not None:
            raise InputError(f"mix: {data.name}: is a mixture; name all sources in one list")

    names = tuple(data.name for data in datasets)
    lengths = [len(data) for data in datasets]
    source = np.repeat(np.arange(len(datasets), dtype=np.int16), lengths)
    shares = [f"{weight:g} of {name}" for weight, name in zip(weights, names)]
    name = f"mix({', '.join(shares)})"
    spec = _common(datasets)
    changes = []
    for data in datasets:
        changes += [f"{data.name}: {dropped}" for dropped in dropped_of(data)]
    return Dataset(
        obs=_joined([data.obs for data in datasets]),
        action=concatenate([data.action for data in datasets]),
        reward=concatenate([data.reward for data in datasets]),
        next_obs=_joined([data.next_obs for data in datasets]),
        terminated=concatenate([data.terminated for data in datasets]),
        truncated=concatenate([data.truncated for data in datasets]),
        end=concatenate([data.end for data in datasets]),
        spec=replace(spec, changes=(*changes, name)),
        name=name,
        mixture=Mixture(names, tuple(float(weight) for weight in weights), source),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return the rows of several arrays as one."""
    return Joined(tuple(parts))  # type: ignore[return-value]  # looks like an array


def _common(datasets: Sequence[Dataset]) -> Spec:
    """Return the spec of all data sets.

    Raises:
        InputError: naming the first field that differs.
    """
    first = datasets[0]
    spec = first.spec
    for data in datasets[1:]:
        others = asdict(data.spec)
        for name, ours in asdict(spec).items():
            theirs = others[name]
            if name == "changes" or ours == theirs:
                continue
            if name in MAY_BE_UNKNOWN and not (ours and theirs):
                spec = replace(spec, **{name: ours or theirs})
                continue
            raise InputError(
                f"mix: {data.name}: {name} = {_short(theirs)}, but {first.name} has "
                f"{_short(ours)}; expected the same of all sources"
            )
    return spec


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
