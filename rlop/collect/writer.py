"""The file of a collection that goes on: complete and valid at any time, and stopped by signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlop.collect.rollout import Part, pack
from rlop.data.formats.hdf5 import write_hdf5
from rlop.envs.layouts import to_unit
from rlop.logs.progress import Progress


class Writer:
    """Called after every step, writes the rows so far every `chunk` rows.

    Args:
        path: file to write, replacing it.
        about: metadata; `policies`, one entry for each policy, get their number of whole episodes and mean return.
        space: of the actions, which are stored in [-1, 1] if it has bounds.
        chunk: rows between writes.
        received: signals; once there is one, playing is to stop.
        bar: shows the progress.
    """

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        space: gymnasium.Space[Any],
        chunk: int,
        received: Sequence[int],
        bar: Progress,
    ) -> None:
        self.path, self.about, self.space, self.chunk = path, about, space, chunk
        self.received, self.bar, self.rows, self.saved = received, bar, 0, 0

    def __call__(self, parts: Callable[[], list[Part]], rows: int) -> bool:
        """Note that there are so many rows; False when playing is to stop."""
        self.parts, self.rows = parts, rows
        self.bar.update(min(rows, self.bar.total))
        if rows - self.saved >= self.chunk:
            self.write()
            self.saved = rows
        return not self.received

    def write(self) -> str:
        """Write the rows so far, and say in half a line what they are."""
        parts = self.parts()
        arrays = pack(parts)
        arrays["actions"] = to_unit(arrays["actions"], self.space)
        whole = [
            (part.episode.policy, float(np.sum(part.episode.reward)))
            for part in parts
            if part.whole
        ]
        policies = list(self.about["policies"])
        for number, policy in enumerate(policies):
            rows = sum(part.stop - part.start for part in parts if part.episode.policy == number)
            policies[number] = {
                **policy,
                "steps": rows,
                **level([value for i, value in whole if i == number]),
            }
        returns = [value for _, value in whole]
        about = {
            **self.about,
            "policies": policies,
            "steps": len(arrays["rewards"]),
            **level(returns),
        }
        about |= {
            key: value
            for key, value in policies[0].items()
            if len(policies) == 1 and key not in about
        }
        write_hdf5(self.path, arrays, about, overwrite=True)
        summary = f"{len(arrays['rewards'])} steps, {len(returns)} whole episodes"
        if returns:
            summary += (
                f", return mean {np.mean(returns):.4g}, {min(returns):.4g} to {max(returns):.4g}"
            )
        return summary


def level(returns: Sequence[float]) -> dict[str, Any]:
    """How good whole episodes were, if there are any."""
    return {
        "episodes": len(returns),
        **({"return_mean": float(np.mean(returns))} if returns else {}),
    }


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives SIGINT and SIGTERM instead of the process; a second one acts as it used to."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers, and only it is interrupted
        return

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
