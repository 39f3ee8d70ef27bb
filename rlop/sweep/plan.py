"""Trainings that cannot share a process: every combination of options such as `hidden` or `backup`.

Numbers that may differ from run to run (learning rate, coefficients, radii) belong on the run axis instead, in one
training; this is for what changes the shape of the computation.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from rlop.training.run import from_args
from rlop.types import InputError


def commands(
    config: str, over: Mapping[str, Sequence[str]], rest: Sequence[str], logdir: Path
) -> dict[str, list[str]]:
    """The command lines of a sweep, by label.

    Args:
        config: YAML file.
        over: dotted key -> values, each as it would stand on the command line.
        rest: further overrides, the same for all.
        logdir: parent folder; each training gets a folder in it, named by its values.
    Raises:
        InputError: for any combination that `rlop train` would refuse for its keys or types, before one starts.
    """
    found: dict[str, list[str]] = {}
    for values in product(*over.values()):
        chosen = [
            part for key, value in zip(over, values, strict=True) for part in (f"--{key}", value)
        ]
        parts = [
            f"{key.rsplit('.', 1)[-1]}={value}" for key, value in zip(over, values, strict=True)
        ]
        label = re.sub(r"[^\w.=+,-]+", "_", re.sub(r"[\[\]{}'\" ]", "", ",".join(parts)))
        argv = [config, *rest, *chosen, "--logdir", str(logdir / label)]
        from_args(argv)
        if label in found:
            raise InputError(
                f"sweep: two combinations are called {label!r}; expected values that differ"
            )
        found[label] = [sys.executable, "-m", "rlop.cli", "train", *argv]
    return found


def run_local(jobs: Mapping[str, Sequence[str]], parallel: int) -> list[str]:
    """Run the commands, so many at a time, each with its output in `<logdir>.log`; returns the labels that failed."""

    def run(argv: Sequence[str]) -> int:
        log = Path(argv[-1] + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w") as file:
            return subprocess.run(
                argv, stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode

    with ThreadPoolExecutor(parallel) as pool:
        codes = list(pool.map(run, jobs.values()))
    return [label for label, code in zip(jobs, codes, strict=True) if code]


def submit(
    jobs: Mapping[str, Sequence[str]], cluster: str, folder: Path, minutes: int
) -> list[str]:
    """Hand the commands to a cluster through submitit and return the ids; `local` runs them as processes here.

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
    return [
        executor.submit(submitit.helpers.CommandFunction(list(argv))).job_id
        for argv in jobs.values()
    ]
