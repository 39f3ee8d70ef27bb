"""Gather batches ahead of their use, on other threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from rlop.data.sampler import Streams, StreamState
from rlop.types import Batch

AHEAD = 8  # batches
THREADS = 4  # that wait for the disk, each for a batch


class Pending(NamedTuple):
    """One batch under way or ready.

    Args:
        state: of the streams before its rows were drawn.
        noise: each noise `[R, *shape]` of its step.
        batch: the result of gathering.
    """

    state: StreamState
    noise: dict[str, Tensor]
    batch: Future[Batch]


class Prefetcher:
    """`Streams` that return the batch in place of its rows' indices.

    Indices and noise are the very same numbers as without it. The other threads wait for the disk
    and copy while the caller computes: PyTorch releases the interpreter's lock meanwhile.

    Args:
        streams: drawn from in the caller's thread, some batches early.
        gather: a table's method, called in the other threads; `next` raises its exceptions.
        ahead: batches under way or ready.
    """

    def __init__(
        self,
        streams: Streams,
        gather: Callable[[Tensor], Batch],
        ahead: int = AHEAD,
    ) -> None:
        self.streams = streams
        self.gather = gather
        self.ahead = ahead
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch")
        self.pending: deque[Pending] = deque()

    def take(self, count: int) -> tuple[list[Batch], dict[str, Tensor]]:
        """Return the batches of the next K steps and each noise `[K, R, *shape]`."""
        batches: list[Batch] = []
        noises: list[dict[str, Tensor]] = []
        for _ in range(count):
            batch, noise = self.next()
            batches.append(batch)
            noises.append(noise)

        stacked: dict[str, Tensor] = {}
        for name in noises[0]:
            stacked[name] = torch.stack([noise[name] for noise in noises])
        return batches, stacked

    def next(self) -> tuple[Batch, dict[str, Tensor]]:
        """Return the batch and each noise `[R, *shape]` of one step."""
        while len(self.pending) <= self.ahead:
            state = self.streams.state_dict()
            index, noise = self.streams.next()
            self.pending.append(Pending(state, noise, self.pool.submit(self.gather, index)))

        first = self.pending.popleft()
        return first.batch.result(), first.noise

    def renew(self) -> None:
        """Discard pre-drawn batches and indices; see `Streams.renew`."""
        self.pending.clear()
        self.streams.renew()

    def state_dict(self) -> StreamState:
        """Return the streams' state before the next batch was drawn, to continue with it."""
        if self.pending:
            return self.pending[0].state
        return self.streams.state_dict()

    def load_state_dict(self, state: StreamState) -> None:
        """Continue where `state_dict` was taken; batches under way are dropped."""
        self.pending.clear()
        self.streams.load_state_dict(state)
