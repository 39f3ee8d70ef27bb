"""Batches gathered ahead, on one other thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from rlop.data.sampler import Streams
from rlop.types import Batch

AHEAD = 8  # batches


class Prefetcher:
    """`Streams` with the batch in place of its rows' indices; indices and noise are the very same numbers.

    Waiting for a disk, and copying, go on while the caller computes: PyTorch gives the interpreter free meanwhile.

    Args:
        streams: drawn from in the caller's thread, some batches early.
        gather: a table's, called in the other thread; what it raises is raised by `next`.
        ahead: batches under way or ready.
    """

    def __init__(
        self, streams: Streams, gather: Callable[[Tensor], Batch], ahead: int = AHEAD
    ) -> None:
        self.streams, self.gather, self.ahead = streams, gather, ahead
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self.ready: deque[tuple[dict[str, Any], dict[str, Tensor], Future[Batch]]] = deque()

    def take(self, count: int) -> tuple[list[Batch], dict[str, Tensor]]:
        """Batches of the next K steps and each noise `[K, R, *shape]`."""
        batches, noise = zip(*(self.next() for _ in range(count)))
        return list(batches), {name: torch.stack([one[name] for one in noise]) for name in noise[0]}

    def next(self) -> tuple[Batch, dict[str, Tensor]]:
        """Batch and each noise `[R, *shape]` for one step."""
        while len(self.ready) <= self.ahead:
            state = self.streams.state_dict()
            index, noise = self.streams.next()
            self.ready.append((state, noise, self.pool.submit(self.gather, index)))
        _, noise, batch = self.ready.popleft()
        return batch.result(), noise

    def renew(self) -> None:
        """As `Streams.renew`."""
        self.ready.clear()
        self.streams.renew()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue with the very next batch: the streams as they were before it was drawn."""
        return self.ready[0][0] if self.ready else self.streams.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; batches under way are dropped."""
        self.ready.clear()
        self.streams.load_state_dict(state)
