"""The file of a collection in progress: complete and valid at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlop.collect.acting import Space
from rlop.collect.rollout import Part, pack
from rlop.data.formats.hdf5 import write_hdf5
from rlop.envs.layouts import to_unit
from rlop.logs.progress import Progress

About: TypeAlias = dict[str, Any]  # metadata of a file: anything that JSON can hold


class Writer:
    """Write the rows so far, every `chunk` rows and at the end.

    Args:
        path: file to write, replacing it.
        about: metadata; each entry of `policies`, one for each policy, is extended by its steps,
            its number of whole episodes and its mean return.
        space: action space; actions are stored in [-1, 1] if it has bounds.
        chunk: rows between writes.
        received: signals; collecting stops after the first.
        bar: shows the progress.
    """

    def __init__(
        self,
        path: Path,
        about: About,
        space: Space,
        chunk: int,
        received: Sequence[int],
        bar: Progress,
    ) -> None:
        self.path = path
        self.about = about
        self.space = space
        self.chunk = chunk
        self.received = received
        self.bar = bar
        self.rows = 0
        self.written_rows = 0

    def __call__(self, parts: Callable[[], list[Part]], rows: int) -> bool:
        """Record the row count; return False to stop collecting.

        Args:
            parts: gives the rows so far; only called when they are written.
            rows: played so far.
        """
        self.parts = parts
        self.rows = rows
        self.bar.update(min(rows, self.bar.total))

        if rows - self.written_rows >= self.chunk:
            self.write()
            self.written_rows = rows
        return not self.received

    def write(self) -> str:
        """Write the rows so far, and return a short summary."""
        parts = self.parts()
        arrays = pack(parts)
        arrays["actions"] = to_unit(arrays["actions"], self.space)
        about = self._metadata(parts)

        write_hdf5(self.path, arrays, about, overwrite=True)

        summary = f"{about['steps']} steps, {about['episodes']} whole episodes"
        returns = _returns(parts)
        if returns:
            summary += f", return mean {np.mean(returns):.4g}"
            summary += f", {min(returns):.4g} to {max(returns):.4g}"
        return summary

    def _metadata(self, parts: Sequence[Part]) -> About:
        """Add the counts and mean return of each policy, and of all together, to the metadata."""
        policies = []
        for number, policy in enumerate(self.about["policies"]):
            played = [part for part in parts if part.episode.policy == number]
            policies.append({**policy, **_level(played)})

        about = {**self.about, "policies": policies, **_level(parts)}
        if len(policies) == 1:
            # The description of a single policy is stored among the other attributes.
            about = {**policies[0], **about}
        return about


def _level(parts: Sequence[Part]) -> Mapping[str, float]:
    """Count rows and whole episodes, and average the returns of the latter if there are any."""
    returns = _returns(parts)
    level: dict[str, float] = {
        "steps": sum(part.stop - part.start for part in parts),
        "episodes": len(returns),
    }
    if returns:
        level["return_mean"] = float(np.mean(returns))
    return level


def _returns(parts: Sequence[Part]) -> list[float]:
    """Sum the rewards of every whole episode."""
    return [float(np.sum(part.episode.reward)) for part in parts if part.whole]
