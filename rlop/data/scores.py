"""D4RL's names: where their files are, their environments' step limits, and reference scores to normalize returns."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from rlop.config.checks import closest
from rlop.types import InputError

PREFIX = "d4rl:"
# D4RL's own environments were gym's v2 and mj_envs' v0. The versions that Gymnasium runs today pay the same rewards up
# to small changes of the simulator, so that a score there is "D4RL-normalized on Gymnasium" and not D4RL's own number.
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


class Source(NamedTuple):
    """What D4RL says of one data set."""

    family: str  # data sets of one environment
    scores: tuple[float, float] | None  # return of a random and of an expert policy
    limit: int  # steps after which the environment cuts an episode
    url: str


@lru_cache(maxsize=1)
def sources() -> dict[str, Source]:
    """All 155 data sets of D4RL 1.1, by name."""
    table = json.loads(files("rlop.data").joinpath("d4rl.json").read_text())
    return {
        name: Source(
            family,
            tuple(about["scores"]) if about["scores"] else None,
            about["limit"],
            table["root"] + path,
        )
        for family, about in table["families"].items()
        for name, path in about["files"].items()
    }


def source_of(name: str) -> Source:
    """What D4RL says of a data set, with or without the prefix `d4rl:`; InputError with the nearest name."""
    known = sources()
    plain = name.removeprefix(PREFIX)
    if plain not in known:
        raise InputError(f"{name!r}: no such D4RL data set{closest(plain, known)}")
    return known[plain]


def find_scores(name: str) -> tuple[float, float] | None:
    """As `reference_scores`, but None where there are none."""
    plain = name.removeprefix(PREFIX)
    if plain in sources():
        return sources()[plain].scores
    family = ENVIRONMENTS.get(plain.rpartition("-v")[0])
    return next(
        (source.scores for source in sources().values() if source.family == family and family), None
    )


def reference_scores(name: str) -> tuple[float, float]:
    """The returns that count as 0 and as 100: those of a random and of an expert policy.

    Args:
        name: a D4RL data set (`hopper-medium-v2`, with or without `d4rl:`; v0, v1 and v2 share their references), or
            the Gymnasium id of an environment in `ENVIRONMENTS`, any version.

    Raises:
        InputError: an unknown name, with the nearest, or one for which D4RL has no scores.

    Reference: `REF_MIN_SCORE`, `REF_MAX_SCORE` in d4rl/infos.py of D4RL 1.1.
    """
    found = find_scores(name)
    if found is not None:
        return found
    if name.removeprefix(PREFIX) in sources():
        raise InputError(f"{name!r}: D4RL has no reference scores for it")
    known = [known for known, source in sources().items() if source.scores]
    known += [f"{env}-v{version}" for env in ENVIRONMENTS for version in (4, 5)]
    raise InputError(f"{name!r}: no reference scores{closest(name.removeprefix(PREFIX), known)}")


def normalized_score(returns: Any, name: str) -> np.ndarray:
    """Returns on the scale where a random policy has 0 and an expert 100.

    score = 100 (return - low) / (high - low)

    Args:
        returns: undiscounted returns, any shape.
        name: data set or environment, see `reference_scores`.

    Returns:
        float64, of the shape of `returns`.

    Raises:
        InputError: as `reference_scores`.

    Reference: `get_normalized_score` in d4rl/__init__.py of D4RL 1.1. Differs from: there the range is 0 to 1, and
    papers multiply by 100, as here.
    """
    low, high = reference_scores(name)
    return 100 * (np.asarray(returns, np.float64) - low) / (high - low)
