"""`sampling`: batches of 32 stacked frames a second, from memory and from a mapped file."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlop.data.dqn_replay.stacks import DEPTH, FrameTable, Stacks
from scripts.bench.measure import show, table

FRAMES, BATCH, CALLS, ROUNDS = 200_000, 32, 2000, 5


def benchmark(frames: int = FRAMES) -> dict[str, dict[str, float]]:
    """Return where the frames are -> batches per second of CPU and of the wall, on one thread.

    The best of a few rounds counts.
    """
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        shape = (frames, 84, 84)
        stored = np.memmap(Path(folder) / "frames", np.uint8, "w+", shape=shape)
        pixels = np.random.default_rng(0).integers(0, 256, (1000, 84, 84), dtype=np.uint8)
        for start in range(0, frames, len(pixels)):
            stored[start : start + len(pixels)] = pixels[: frames - start]
        for name, held in (("memory", np.array(stored)), ("mapped file", stored)):
            found[name] = rate(held)
    gigabytes = BATCH * (DEPTH + 1) * 84 * 84 / 1e9  # of frames in a batch, each read once
    rows = [
        [
            name,
            show(v["per_cpu_s"], ",.0f"),
            show(v["per_wall_s"], ",.0f"),
            show(gigabytes * v["per_cpu_s"], ".1f"),
        ]
        for name, v in found.items()
    ]
    print(
        table([f"{frames:,} frames in", "batches / CPU s", "batches / s", "GB / CPU s"], rows),
        flush=True,
    )
    return found


def rate(frames: np.ndarray) -> dict[str, float]:
    last = np.arange(DEPTH - 1, len(frames) - 1)
    zeros = np.zeros(len(last), np.float32)
    columns: dict[str, Any] = {"obs": Stacks(frames, last), "next_obs": Stacks(frames, last + 1)}
    columns |= {
        "action": zeros.astype(np.int64),
        "reward": zeros,
        "terminated": zeros,
        "discount": zeros + 1,
    }
    gather = FrameTable(columns).gather
    generator = torch.Generator().manual_seed(0)
    batches = torch.randint(len(last), (CALLS, 1, BATCH), generator=generator)
    best = {"per_cpu_s": 0.0, "per_wall_s": 0.0}
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        for index in batches:
            gather(index)
        best["per_cpu_s"] = max(best["per_cpu_s"], CALLS / (time.process_time() - cpu))
        best["per_wall_s"] = max(best["per_wall_s"], CALLS / (time.perf_counter() - wall))
    return best
