"""Stacked frames of Atari, from the device's memory and from a mapped file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.data.dqn_replay.stacks import DEPTH, FrameTable, Stacks
from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams
from rlop.training.compile import Forms, Launch
from rlop.types import Metrics
from scripts.bench import ours
from scripts.bench.gpu.timing import GRAPH, LAUNCH, Effort, Row, Turn, rates, spread
from scripts.bench.problems import CASES, transitions
from scripts.bench.sampling import write_frames

NATURE = CASES["nature"][0]
FRAMES = 100_000
PIXELS = 84 * 84


def feeding(batch: int, effort: Effort) -> Iterator[Row]:
    """Measure batches alone, then updates of DQN on them."""
    with tempfile.TemporaryDirectory() as folder:
        mapped = write_frames(Path(folder) / "frames", FRAMES)
        on_device = table(np.array(mapped), effort.device)
        on_disk = table(mapped, effort.device)

        agent = ours.make_agent(
            NATURE, transitions(NATURE, 100), device=effort.device, batch_size=batch
        )
        turns: dict[str, Turn] = {
            "batches from the device": partial(gather_next, on_device, streams(agent, on_device)),
            "batches from a mapped file": partial(prefetched, prefetcher(agent, on_disk)),
            "updates, frames on the device": partial(
                update_on, agent, on_device, streams(agent, on_device)
            ),
            f"updates, {GRAPH}": recorded(agent, on_device),
            "updates, frames in a mapped file": partial(
                update_prefetched, agent, prefetcher(agent, on_disk)
            ),
        }
        found = rates(turns, effort)

    frames_on = on_device.frames.device.type
    for name, values in found.items():
        row: Row = {"case": f"{FRAMES:,} frames, batch {batch}", "what": name}
        row |= spread(values, "a second")
        row["frames, GB/s"] = float(row["a second"]) * batch * (DEPTH + 1) * PIXELS / 1e9
        yield {**row, "frames in memory live on": frames_on}


def table(frames: np.ndarray, device: str) -> FrameTable:
    """Return a table of one-step transitions on these frames."""
    last = np.arange(DEPTH - 1, len(frames) - 1)
    zeros = np.zeros(len(last), np.float32)
    columns = {
        "obs": Stacks(frames, last),
        "next_obs": Stacks(frames, last + 1),
        "action": last % NATURE.actions,
        "reward": zeros,
        "terminated": zeros,
        "discount": zeros + 1,
    }
    return FrameTable(columns, device)


def streams(agent: Agent, frames: FrameTable) -> Streams:
    """Return rows of the agent's batches."""
    return Streams(agent.runs.seeds, agent.batch_size, len(frames), agent.noise, agent.device)


def prefetcher(agent: Agent, frames: FrameTable) -> Prefetcher:
    """Return batches that another thread gathers."""
    return Prefetcher(streams(agent, frames), frames.gather)


def gather_next(frames: FrameTable, rows: Streams) -> int:
    """Gather one batch."""
    frames.gather(rows.next()[0])
    return 1


def prefetched(source: Prefetcher) -> int:
    """Take one batch."""
    source.next()
    return 1


def update_on(agent: Agent, frames: FrameTable, rows: Streams) -> int:
    """Gather a batch and update."""
    index, noise = rows.next()
    agent.update(frames.gather(index), noise)
    return 1


def update_prefetched(agent: Agent, source: Prefetcher) -> int:
    """Take a batch and update."""
    agent.update(*source.next())
    return 1


def recorded(agent: Agent, frames: FrameTable) -> Turn:
    """Return a graph of several updates that gather their own batches."""

    def update(rows: Tensor, noise: Noise) -> Metrics:
        return agent.update(frames.gather(rows), noise)

    rows = streams(agent, frames)
    launch = Launch(agent, Forms(update, update, 1), LAUNCH)

    def turn() -> int:
        launch(*rows.take(LAUNCH))
        return LAUNCH

    return turn


def lives(effort: Effort) -> Iterator[Row]:
    """Report how much device memory the frames take."""
    if torch.device(effort.device).type != "cuda":
        return
    before = torch.cuda.memory_allocated()
    kept = table(np.zeros((FRAMES, 84, 84), np.uint8), effort.device)
    used = torch.cuda.memory_allocated() - before
    yield {
        "case": f"{FRAMES:,} frames",
        "what": f"device memory of a table on {kept.frames.device}",
        "GiB": used / 2**30,
    }


FEEDING = [lives, partial(feeding, 32), partial(feeding, 256)]
