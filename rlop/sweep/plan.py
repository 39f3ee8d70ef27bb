"""Trainings that cannot share a process: every combination of options such as `hidden` or `backup`.

Numbers that may differ from run to run (learning rate, coefficients, radii) belong on the run axis
instead, in one training; a sweep is for options that change the shape of the computation.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TypeAlias

from rlop.training.run import from_args
from rlop.types import InputError

Command: TypeAlias = Sequence[str]


def commands(
    config: str,
    over: Mapping[str, Sequence[str]],
    rest: Sequence[str],
    logdir: Path,
) -> dict[str, list[str]]:
    """Build the command lines of a sweep, by label.

    Args:
        config: YAML file.
        over: dotted key -> values, each as on the command line.
        rest: further overrides, the same for all.
        logdir: parent folder; each training gets a folder in it, named by its values.

    Raises:
        InputError: for any combination that `rlop train` would refuse for its keys or types, before
            one starts.
    """
    jobs: dict[str, list[str]] = {}
    for values in product(*over.values()):
        options: list[str] = []
        for key, value in zip(over, values):
            options += [f"--{key}", value]

        label = _label(over, values)
        if label in jobs:
            raise InputError(
                f"sweep: two combinations are called {label!r}; expected values that differ"
            )

        # Check every combination before the first one runs.
        argv = [config, *rest, *options, "--logdir", str(logdir / label)]
        from_args(argv)
        jobs[label] = [sys.executable, "-m", "rlop.cli", "train", *argv]
    return jobs


def run_local(jobs: Mapping[str, Command], parallel: int) -> list[str]:
    """Run the commands, each with its output in `<logdir>.log`; return the labels that failed.

    Args:
        jobs: label -> command line that ends in its logdir.
        parallel: number of commands at a time.
    """
    with ThreadPoolExecutor(parallel) as pool:
        codes = list(pool.map(_run, jobs.values()))
    return [label for label, code in zip(jobs, codes) if code]


def submit(jobs: Mapping[str, Command], cluster: str, folder: Path, minutes: int) -> list[str]:
    """Submit the commands to a cluster through submitit, and return their ids.

    Args:
        jobs: label -> command line.
        cluster: as submitit names it; `local` runs them as processes on this machine.
        folder: for the logs of submitit.
        minutes: time limit of a job.

    Raises:
        InputError: submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise InputError(
            "sweep --cluster needs submitit, which is not there: pip install 'rlop[sweep]'"
        ) from None

    executor = submitit.AutoExecutor(folder=folder / "submitit", cluster=cluster)
    executor.update_parameters(timeout_min=minutes)

    ids = []
    for argv in jobs.values():
        job = executor.submit(submitit.helpers.CommandFunction(list(argv)))
        ids.append(job.job_id)
    return ids


def _label(keys: Sequence[str] | Mapping[str, object], values: Sequence[str]) -> str:
    """Name a combination by the last parts of its keys, in characters valid in folder names."""
    parts = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in zip(keys, values)]
    text = re.sub(r"[\[\]{}'\" ]", "", ",".join(parts))
    return re.sub(r"[^\w.=+,-]+", "_", text)


def _run(argv: Command) -> int:
    """Run a training, and return its exit code."""
    log = Path(f"{argv[-1]}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        done = subprocess.run(argv, stdout=file, stderr=subprocess.STDOUT, check=False)
    return done.returncode
