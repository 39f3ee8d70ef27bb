"""Train on data that memory need not hold, and compare the speed with the same data in memory.

    python scripts/large_data.py                         # the table of docs/large_data.md; 16 GB
    python scripts/large_data.py --rows 2000000 --frames 0 --sparse 0

Files are generated in a folder below `--folder` and removed at the end. Every line is a process of
its own, which prints what it did and the most anonymous memory that it had: what the system counts
as `Anonymous` in /proc/self/smaps_rollup, without the pages of mapped files that it can drop. A
part whose number of rows is 0 is left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlop.command import leave_script_folder

leave_script_folder(__file__)

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rlop.agents import DQN  # noqa: E402

import rlop  # noqa: E402
from rlop.agent import Agent  # noqa: E402
from rlop.data.dqn_replay.files import file_name  # noqa: E402
from rlop.data.dqn_replay.parts import join  # noqa: E402
from rlop.data.mapped import open_mapped  # noqa: E402
from rlop.training.loop import Loop  # noqa: E402
from rlop.training.options import TrainOptions  # noqa: E402

OBS, ACTIONS, EPISODE = 11, 4, 1000
FRAME = (84, 84)
PIECE = 1 << 18  # rows generated at a time
WARM = 20  # updates before the measured ones
SCRIPT = str(Path(__file__).resolve())


# ---- generated data


def write_states(path: Path, rows: int) -> None:
    """Write random transitions in D4RL's layout, some at a time."""
    kinds = {
        "observations": ((rows, OBS), np.float32),
        "next_observations": ((rows, OBS), np.float32),
        "actions": ((rows,), np.int64),
        "rewards": ((rows,), np.float32),
        "terminals": ((rows,), bool),
        "timeouts": ((rows,), bool),
    }
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        columns = {name: file.create_dataset(name, *kind) for name, kind in kinds.items()}
        for first in range(0, rows, PIECE):
            n = min(PIECE, rows - first)
            some = slice(first, first + n)
            obs = rng.standard_normal((n + 1, OBS), np.float32)
            columns["observations"][some] = obs[:-1]
            columns["next_observations"][some] = obs[1:]
            columns["actions"][some] = rng.integers(0, ACTIONS, n)
            columns["rewards"][some] = rng.standard_normal(n, np.float32)
            columns["terminals"][some] = False
            columns["timeouts"][some] = np.arange(first, first + n) % EPISODE == EPISODE - 1


def write_frames(root: Path, rows: int) -> None:
    """Write a checkpoint of a replay log: frames that hardly differ, which unpack quickly."""
    folder = root / "Pong" / "1" / "replay_logs"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with gzip.open(folder / file_name("observation", 0), "wb", 1) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *FRAME)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, rows, 1024):
            frames = np.zeros((min(1024, rows - first), *FRAME), np.uint8)
            frames[:, :2] = rng.integers(0, 256, (len(frames), 2, FRAME[1]))
            file.write(frames.tobytes())
    others = {
        "action": rng.integers(0, 6, rows).astype(np.int32),
        "reward": rng.integers(-1, 2, rows).astype(np.float32),
        "terminal": (np.arange(rows) % EPISODE == EPISODE - 1).astype(np.uint8),
        "add_count": np.array(rows),
        "invalid_range": np.zeros(0, np.int64),
    }
    for name, column in others.items():
        with gzip.open(folder / file_name(name, 0), "wb", 1) as file:
            np.save(file, column)


def sparse_frames(path: Path, rows: int) -> rlop.data.Dataset:
    """Return transitions with the frames of a file without content."""
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(rows * FRAME[0] * FRAME[1])
    last = np.arange(3, rows - 1)
    ends = last % EPISODE == EPISODE - 1
    piece = {
        "action": (last % 6).astype(np.int8),
        "reward": np.ones(len(last), np.float32),
        "terminated": np.zeros(len(last), bool),
        "end": ends,
        "last": last,
    }
    return join([piece], open_mapped(path).reshape(rows, *FRAME), path.name, 6, None)


# ---- one process


@contextmanager
def anonymous_peak() -> Iterator[dict[str, float]]:
    """Watch this process's anonymous memory; GB under `peak` at the end."""
    found = {"peak": 0.0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            found["peak"] = max(found["peak"], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def anonymous() -> float:
    """Return the anonymous memory of this process in GB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise AssertionError


def agent_for(kind: str, data: rlop.data.Dataset) -> Agent:
    """Make the agent whose training is timed."""
    if kind == "states":
        return DQN(data.spec, hidden=[256, 256], batch_size=256)
    return DQN(data.spec, network="nature", batch_size=32)


def work(options: argparse.Namespace) -> None:
    """Load, train, and print one line of JSON."""
    torch.set_num_threads(1)
    folder = Path(options.folder)
    if options.pair:
        in_memory, cached = load(folder, options.kind), load(folder, options.kind, "cache")
        print(json.dumps(race(options.kind, in_memory, cached, options.seconds, options.rounds)))
        return

    with anonymous_peak() as memory:
        start = time.perf_counter()
        if options.kind == "sparse":
            data = sparse_frames(folder / "sparse.bin", options.n)
        else:
            data = load(folder, options.kind, "cache")
        loaded = time.perf_counter() - start
        if options.cold:
            drop(folder)
        loop = loop_of(options.kind, data)
        pace = updates(loop, options.seconds)
    found = {"rows": len(data), "load_s": loaded, "peak_gb": memory["peak"], **pace}
    print(json.dumps(found))


def load(folder: Path, kind: str, cache: str | None = None) -> rlop.data.Dataset:
    """Load what was generated, into memory or through a cache."""
    place = {} if cache is None else {"cache": folder / cache}
    if kind == "frames":
        return rlop.load_dataset("dqn-replay:Pong/1", root=folder, **place)
    return rlop.load_dataset(folder / "states.hdf5", **place)


def loop_of(kind: str, data: rlop.data.Dataset) -> Loop:
    """Set up a training, past its first updates."""
    loop = Loop(agent_for(kind, data), data, TrainOptions(compile=False, updates_per_launch=1))
    for _ in range(WARM):
        loop.advance()
    return loop


def updates(loop: Loop, seconds: float) -> dict[str, float]:
    """Train for some seconds; return updates per second, of the clock and of CPU time."""
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < seconds:
        loop.advance()
        count += 1
    return {
        "per_s": count / (time.perf_counter() - wall),
        "per_cpu_s": count / (time.process_time() - cpu),
    }


def race(
    kind: str,
    in_memory: rlop.data.Dataset,
    cached: rlop.data.Dataset,
    seconds: float,
    rounds: int,
) -> dict[str, list[float]]:
    """Train on both in turn, so that both meet the same load; return the ratios of their paces."""
    loops = loop_of(kind, in_memory), loop_of(kind, cached)
    ratios: dict[str, list[float]] = {"per_s": [], "per_cpu_s": []}
    for _ in range(rounds):
        memory, cache = (updates(loop, seconds) for loop in loops)
        for clock, values in ratios.items():
            values.append(cache[clock] / memory[clock])
    return ratios


def drop(folder: Path) -> None:
    """Ask the system to forget the pages of the generated files."""
    for path in folder.rglob("*.bin"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


# ---- the table


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=int, default=50_000_000, help="transitions of states")
    add("--fits", type=int, default=5_000_000, help="transitions for the comparison with memory")
    add("--frames", type=int, default=1_000_000, help="frames of a replay log")
    add("--sparse", type=int, default=20_000_000, help="frames of a file without content")
    add("--fits-frames", type=int, default=100_000, help="frames for that comparison")
    add("--seconds", type=float, default=5.0, help="of training that are timed at a time")
    add("--rounds", type=int, default=7, help="of the comparison")
    add("--folder", type=Path, default=Path("."), help="on the disk to measure")
    add("--kind", choices=["states", "frames", "sparse"], help=argparse.SUPPRESS)
    add("--n", type=int, help=argparse.SUPPRESS)
    add("--pair", action="store_true", help=argparse.SUPPRESS)
    add("--cold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind is not None:
        work(options)
        return

    folder = Path(tempfile.mkdtemp(prefix="large-data-", dir=options.folder))
    try:
        measure(folder, options)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Print the lines of the table."""
    print("| data | rows | load, s | updates per s | per CPU s | anonymous memory, GB |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    if options.rows:
        write_states(folder / "states.hdf5", options.rows)
        line(folder, options, "states", "cache made")
        line(folder, options, "states", "cache there")
        line(folder, options, "states", "cache on disk alone", "--cold")
        clear(folder)
    if options.frames:
        write_frames(folder, options.frames)
        line(folder, options, "frames", "cache made")
        line(folder, options, "frames", "cache there")
        line(folder, options, "frames", "cache on disk alone", "--cold")
        clear(folder)
    if options.sparse:
        line(folder, options, "sparse", "mapped", "--n", str(options.sparse))
        clear(folder)

    print("\n| data | rows | speed / in memory | by CPU time |")
    print("| --- | --- | --- | --- |", flush=True)
    if options.fits:
        write_states(folder / "states.hdf5", options.fits)
        compare(folder, options, "states", options.fits)
        clear(folder)
    if options.fits_frames:
        write_frames(folder, options.fits_frames)
        compare(folder, options, "frames", options.fits_frames)


def line(folder: Path, options: argparse.Namespace, kind: str, where: str, *arguments: str) -> None:
    """Measure in a process of its own, and print a line of the table."""
    found = once(folder, options, kind, *arguments)
    print(
        f"| {kind}, {where} | {found['rows']:,} | {found['load_s']:.1f} | {found['per_s']:.1f} | "
        f"{found['per_cpu_s']:.1f} | {found['peak_gb']:.2f} |",
        flush=True,
    )


def compare(folder: Path, options: argparse.Namespace, kind: str, rows: int) -> None:
    """Train in memory and from the cache in turn; print the ratio of their paces."""
    once(folder, options, kind)  # makes the cache
    ratios = once(folder, options, kind, "--pair", "--rounds", str(options.rounds))
    shown = []
    for values in ratios.values():
        shown.append(f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})")
    print(f"| {kind} | {rows:,} | {' | '.join(shown)} |", flush=True)


def once(folder: Path, options: argparse.Namespace, kind: str, *arguments: str) -> Any:
    """Run `work` in a process of its own."""
    command = [sys.executable, SCRIPT, "--kind", kind, "--folder", str(folder)]
    command += ["--seconds", str(options.seconds), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def clear(folder: Path) -> None:
    """Remove what was generated."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
