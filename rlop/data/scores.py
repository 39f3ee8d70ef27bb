"""D4RL's names: addresses of the files, step limits, and reference scores to normalize returns."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlop.config.checks import closest
from rlop.types import InputError

PREFIX = "d4rl:"

# Gymnasium's environments -> D4RL's families. D4RL's own environments were gym's v2 and mj_envs'
# v0. The versions that Gymnasium runs today pay the same rewards up to small changes of the
# simulator, so that a score there is "D4RL-normalized on Gymnasium" and not D4RL's own number.
ENVIRONMENTS = {
    "HalfCheetah": "halfcheetah",
    "Hopper": "hopper",
    "Walker2d": "walker2d",
    "Ant": "ant",
    "AdroitHandDoor": "door",
    "AdroitHandHammer": "hammer",
    "AdroitHandPen": "pen",
    "AdroitHandRelocate": "relocate",
}
OFFERED_VERSIONS = (4, 5)  # of these environments, in hints about a misspelt name


class Published(NamedTuple):
    """What is known of the bytes of a file.

    Args:
        size: in bytes.
        sha256: 64 hexadecimal digits.
    """

    size: int
    sha256: str


class Source(NamedTuple):
    """D4RL's entry of one data set.

    Args:
        family: shared by the data sets of one environment.
        scores: return of a random and of an expert policy; None where D4RL has none.
        limit: steps after which the environment cuts an episode.
        url: address of the file, as D4RL has it.
        path: of the file below the folder of all data sets.
        published: size and SHA-256 of the file; None for the 51 files of which they are not known.
    """

    family: str
    scores: tuple[float, float] | None
    limit: int
    url: str
    path: str = ""
    published: Published | None = None


@lru_cache(maxsize=1)
def sources() -> dict[str, Source]:
    """Read the table of all 155 data sets of D4RL 1.1, by name."""
    table = _table("d4rl.json")
    checksums = _table("d4rl_checksums.json")["files"]

    by_name: dict[str, Source] = {}
    for family, about in table["families"].items():
        scores = tuple(about["scores"]) if about["scores"] else None
        for name, path in about["files"].items():
            published = Published(*checksums[path]) if path in checksums else None
            url = table["root"] + path
            by_name[name] = Source(family, scores, about["limit"], url, path, published)
    return by_name


def _table(name: str) -> dict[str, Any]:
    text = files("rlop.data").joinpath(name).read_text()
    table: dict[str, Any] = json.loads(text)
    return table


def source_of(name: str) -> Source:
    """Return D4RL's entry of a data set, with or without the prefix `d4rl:`.

    Raises:
        InputError: an unknown name, with the nearest.
    """
    plain = name.removeprefix(PREFIX)
    if plain not in sources():
        raise InputError(f"{name!r}: no such D4RL data set{closest(plain, sources())}")
    return sources()[plain]


def find_scores(name: str) -> tuple[float, float] | None:
    """Return what `reference_scores` does, but None for a name that has none."""
    plain = name.removeprefix(PREFIX)
    if plain in sources():
        return sources()[plain].scores

    family = ENVIRONMENTS.get(plain.rpartition("-v")[0])
    if family is None:
        return None
    for source in sources().values():
        if source.family == family:
            return source.scores
    return None


def reference_scores(name: str) -> tuple[float, float]:
    """Return the returns that count as 0 and as 100: a random and an expert policy's.

    Args:
        name: a D4RL data set (`hopper-medium-v2`, with or without `d4rl:`; v0, v1 and v2 share
            their references), or the Gymnasium id of an environment in `ENVIRONMENTS`, any version.

    Raises:
        InputError: an unknown name, with the nearest, or one for which D4RL has no scores.

    Reference: `REF_MIN_SCORE`, `REF_MAX_SCORE` in d4rl/infos.py of D4RL 1.1.
    """
    scores = find_scores(name)
    if scores is not None:
        return scores

    plain = name.removeprefix(PREFIX)
    if plain in sources():
        raise InputError(f"{name!r}: D4RL has no reference scores for it")

    choices: list[str] = []
    for data_set, source in sources().items():
        if source.scores:
            choices.append(data_set)
    for env in ENVIRONMENTS:
        choices += [f"{env}-v{version}" for version in OFFERED_VERSIONS]
    raise InputError(f"{name!r}: no reference scores{closest(plain, choices)}")


def normalized_score(returns: ArrayLike, name: str) -> np.ndarray:
    """Map returns to the scale where a random policy has 0 and an expert 100.

        score = 100 (return - low) / (high - low)

    Args:
        returns: undiscounted returns, any shape.
        name: data set or environment, see `reference_scores`.

    Returns:
        float64, of the shape of `returns`.

    Raises:
        InputError: as `reference_scores`.

    Reference: `get_normalized_score` in d4rl/__init__.py of D4RL 1.1.
    Differs from: its range is 0 to 1, and papers multiply by 100, as here.
    """
    low, high = reference_scores(name)
    return 100 * (np.asarray(returns, np.float64) - low) / (high - low)
