"""Where the batches of one data set come from, and the update that takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams, Table
from rlop.training.compile import Launch, Update


@dataclass(frozen=True)
class Feed:
    """Where the batches of one data set come from, and the update that takes them.

    Args:
        table: the transitions, on the device.
        streams: rows `[R, B]`, or batches that were gathered ahead, and the noise of each step.
        gather: what makes the update's first argument of them.
        update: one update of every run.
        launch: several updates as one call.
    """

    table: Table
    streams: Streams | Prefetcher
    gather: Callable[[Any], Any]
    update: Update
    launch: Launch


def as_is(batch: Any) -> Any:
    """Return the argument, which the update gathers itself or which was gathered ahead."""
    return batch
