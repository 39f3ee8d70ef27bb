"""The source of the batches of one data set, and the update that takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams, Table
from rlop.training.compile import Launch, Update


@dataclass(frozen=True)
class Feed:
    """The source of the batches of one data set, and the update that takes them.

    Args:
        table: the transitions, on the device.
        streams: rows `[R, B]`, or prefetched batches, and the noise of each step.
        gather: turns rows of the streams into the first argument of the update.
        update: one update of every run.
        launch: several updates as one call.
    """

    table: Table
    streams: Streams | Prefetcher
    gather: Callable[[Any], Any]
    update: Update
    launch: Launch


def as_is(batch: Any) -> Any:
    """Return the argument unchanged: the update gathers it, or it is a prefetched batch."""
    return batch
