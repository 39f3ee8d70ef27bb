"""`sampling`: batches of stacked frames per second, from memory and from a mapped file.

A batch holds 32 transitions.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from rlop.data.dqn_replay.stacks import DEPTH, FrameTable, Stacks
from scripts.bench.measure import show, table

FRAMES = 200_000
BATCH = 32
CALLS = 2000  # in a round
ROUNDS = 5


class Rate(TypedDict):
    """Batches per second, the best of the rounds."""

    per_cpu_s: float
    per_wall_s: float


def benchmark(frames: int = FRAMES) -> dict[str, Rate]:
    """Measure the rate for each place of the frames, on one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        mapped = write_frames(Path(folder) / "frames", frames)
        rates = {"memory": rate(np.array(mapped)), "mapped file": rate(mapped)}

    gigabytes = BATCH * (DEPTH + 1) * 84 * 84 / 1e9  # of frames in a batch, each read once
    rows = []
    for name, result in rates.items():
        rows.append(
            [
                name,
                show(result["per_cpu_s"], ",.0f"),
                show(result["per_wall_s"], ",.0f"),
                show(gigabytes * result["per_cpu_s"], ".1f"),
            ]
        )

    header = [f"{frames:,} frames in", "batches / CPU s", "batches / s", "GB / CPU s"]
    print(table(header, rows), flush=True)
    return rates


def write_frames(path: Path, frames: int) -> np.memmap:
    """Write random frames into a mapped file, repeating a thousand different ones."""
    mapped = np.memmap(path, np.uint8, "w+", shape=(frames, 84, 84))
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 84, 84), dtype=np.uint8)
    for start in range(0, frames, len(pixels)):
        mapped[start : start + len(pixels)] = pixels[: frames - start]
    return mapped


def rate(frames: np.ndarray) -> Rate:
    """Gather batches of random stacks and time the fastest round."""
    last = np.arange(DEPTH - 1, len(frames) - 1)
    zeros = np.zeros(len(last), np.float32)
    columns = {
        "obs": Stacks(frames, last),
        "next_obs": Stacks(frames, last + 1),
        "action": zeros.astype(np.int64),
        "reward": zeros,
        "terminated": zeros,
        "discount": zeros + 1,
    }
    gather = FrameTable(columns).gather
    generator = torch.Generator().manual_seed(0)
    batches = torch.randint(len(last), (CALLS, 1, BATCH), generator=generator)

    best: Rate = {"per_cpu_s": 0.0, "per_wall_s": 0.0}
    for _ in range(ROUNDS):
        cpu_started = time.process_time()
        wall_started = time.perf_counter()
        for index in batches:
            gather(index)
        cpu = time.process_time() - cpu_started
        wall = time.perf_counter() - wall_started
        best["per_cpu_s"] = max(best["per_cpu_s"], CALLS / cpu)
        best["per_wall_s"] = max(best["per_wall_s"], CALLS / wall)

    return best
