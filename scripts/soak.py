"""Train for an hour and watch the process: nothing may grow, and it may not slow down.

    python scripts/soak.py                                # an hour
    python scripts/soak.py --minutes 2 --folder soak      # keeps samples.jsonl and the training

Log, probe, evaluation and checkpoint are on. Resident memory, open files, threads, bytes of the log
a step and updates a CPU second are those of minutes 5 to 10 and of the last five minutes (of a
twelfth of the time, where it is not an hour). The work of others on the machine changes the speed,
too: in both parts a training that began five minutes before runs beside it, to which the speed is
compared as well. Exit code 1 if something grew, or both speeds changed by more than 5 %.

For Linux: what the process uses is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from rlop.command import guarded, leave_script_folder

leave_script_folder(__file__)  # puts the checkout on the path

import numpy as np  # noqa: E402
import yaml  # noqa: E402

from rlop.logs.history import EVENTS, RECORD  # noqa: E402
from rlop.types import InputError  # noqa: E402

# Every episode of the evaluation has 50 steps: a policy that learns must not change its price.
TRAINING = {
    "data": "moves.npz",
    "steps": 10**9,
    "log_every": 25,
    "probe_every": 250,
    "eval_every": 500,
    "checkpoint_every": 500,
    "compile": False,
    "env": "MountainCar-v0",
    "env_kwargs": {"max_episode_steps": 50},
    "eval_episodes": 1,
    "seeds": 2,
    "agent": {"name": "DQN", "hidden": [32, 32], "batch_size": 32},
}
LAST_BYTES = 1 << 16  # of the record, which hold its last line
Sample = dict[str, float]
# measure -> largest change that counts as none, relative to minutes 5 to 10
GROWTH = {"memory MiB": 0.01, "open files": 0.0, "threads": 0.0, "log bytes a step": 0.02}
SPEED, RELATIVE = "updates a CPU second", "relative to a new training"
SLOWER = 0.05


def write_inputs(folder: Path) -> None:
    """Write the configuration and its data: random moves of a car."""
    (folder / "soak.yaml").write_text(yaml.safe_dump(TRAINING))
    rng = np.random.default_rng(0)
    n = 2_000
    np.savez(
        folder / "moves.npz",
        obs=rng.uniform([-1.2, -0.07], [0.6, 0.07], (n, 2)).astype(np.float32),
        action=rng.integers(0, 3, n),
        reward=rng.normal(size=n).astype(np.float32),
        next_obs=rng.uniform([-1.2, -0.07], [0.6, 0.07], (n, 2)).astype(np.float32),
        terminated=np.zeros(n, bool),
        truncated=np.arange(n) % 50 == 49,
    )


def last_step(record: Path) -> int:
    """Return the step of the last whole line of a record."""
    with record.open("rb") as file:
        file.seek(max(0, record.stat().st_size - LAST_BYTES))
        lines = file.read().split(b"\n")
    return int(json.loads(lines[-2])["step"]) if len(lines) > 2 else 0


def sample(pid: int, logdir: Path, minutes: float) -> Sample:
    """Return what a process uses now, and how far its training is."""
    process = Path("/proc") / str(pid)
    step = last_step(logdir / RECORD)
    logs = [logdir / RECORD, *logdir.glob(f"*/{EVENTS}*")]
    pages = int((process / "statm").read_text().split()[1])
    # The name of the program, in parentheses, may hold spaces; user and system time follow it.
    times = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    return {
        "minutes": minutes,
        "memory MiB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "open files": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "step": step,
        "log bytes": sum(path.stat().st_size for path in logs),
        "CPU s": sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
    }


def measures(samples: Sequence[Sample], begin: float, end: float) -> Sample:
    """Return every measure of the samples between two times in minutes."""
    some = [one for one in samples if begin <= one["minutes"] <= end]
    if len(some) < 3:
        raise InputError(f"minutes {begin:.1f} to {end:.1f}: expected three samples or more")

    found = {name: median(one[name] for one in some) for name in list(GROWTH)[:3]}
    found["log bytes a step"] = growth(some[0], some[-1], "log bytes", "step")
    found[SPEED] = median(growth(*pair, "step", "CPU s") for pair in pairwise(some))
    return found


def growth(first: Sample, last: Sample, name: str, other: str) -> float:
    """Return by how much one measure grew for each unit of another."""
    return (last[name] - first[name]) / max(last[other] - first[other], 1e-9)


class Training:
    """A training in another process, in a folder of its own within a `with` statement.

    Args:
        folder: holds the configuration and its data; output and samples go there.
        name: of the training.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.samples: list[Sample] = []

    def __enter__(self) -> Training:
        command = [sys.executable, "-m", "rlop.cli", "train", "soak.yaml", "--logdir", self.name]
        paths = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *sys.path])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self.output = (self.folder / f"{self.name}.txt").open("wb")
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=self.output, stderr=subprocess.STDOUT
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.output.close()
        if code != 128 + signal.SIGTERM:
            raise InputError(f"{self.output.name}: the training ended with {code}, expected 143")

    def look(self, minutes: float) -> None:
        """Sample the training, once it has begun."""
        logdir = self.folder / self.name
        if (logdir / RECORD).exists() and self.process.poll() is None:
            self.samples.append(sample(self.process.pid, logdir, minutes))
            with (self.folder / f"{self.name}.jsonl").open("a") as file:
                print(json.dumps(self.samples[-1]), file=file)


def watch(trainings: Sequence[Training], began: float, until: float, every: float) -> None:
    """Sample trainings until a time in minutes."""
    while (minutes := (time.monotonic() - began) / 60) < until:
        for training in trainings:
            training.look(minutes)
        time.sleep(every)


def soak(argv: list[str]) -> None:
    """Train in other processes, sample them, print the table, and raise if something grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=60.0, help="how long")
    add("--every", type=float, default=10.0, help="seconds between samples")
    add("--folder", type=Path, help="keep samples and trainings there")
    args = parser.parse_args(argv)

    folder = args.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    write_inputs(folder)
    part, end = args.minutes / 12, args.minutes
    began = time.monotonic()
    with Training(folder, "run") as run:
        with Training(folder, "first") as first:
            watch([run, first], began, 2 * part, args.every)
        watch([run], began, end - 2 * part, args.every)
        with Training(folder, "last") as last:
            watch([run, last], began, end, args.every)

    before, after = measures(run.samples, part, 2 * part), measures(run.samples, end - part, end)
    before[RELATIVE] = before[SPEED] / measures(first.samples, part, 2 * part)[SPEED]
    after[RELATIVE] = after[SPEED] / measures(last.samples, end - part, end)[SPEED]
    print(f"| measure | minutes {part:.3g} to {2 * part:.3g} | the last {part:.3g} | change |")
    print("|---|---|---|---|")
    changes = {}
    for name, value in before.items():
        changes[name] = after[name] / value - 1
        print(f"| {name} | {value:.5g} | {after[name]:.5g} | {changes[name]:+.2%} |")
    print(f"{len(run.samples):,} samples, {run.samples[-1]['step']:,} updates")

    wrong = [name for name, most in GROWTH.items() if changes[name] > most]
    if min(abs(changes[SPEED]), abs(changes[RELATIVE])) > SLOWER:
        wrong.append(SPEED)
    if wrong:
        raise InputError(f"{folder}: changed: {', '.join(wrong)}")


if __name__ == "__main__":
    sys.exit(guarded(soak))
