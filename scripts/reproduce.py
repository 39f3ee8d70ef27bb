"""Reproduce the workshop: run experiments, print and save their results.

    python scripts/reproduce.py all                  # everything testable; half an hour
    python scripts/reproduce.py fast                 # what takes a few seconds each
    python scripts/reproduce.py label_noise robust_ridge --jobs 2 --out runs/reproduce
    python scripts/reproduce.py baselines            # every module alone; about an hour

Writes results.json, REPRODUCTION.md and pictures. Each experiment runs in its own process on one
thread, so that one that fails or hangs does not stop the others; the exit code is 1 if any failed.
Results of experiments that are not run again are kept.

`baselines` is not part of `all`. It trains every regularizer, projection, optimizer, layer and
reset at three strengths and eight seeds, and writes BASELINES.md, baselines.json and baselines.png;
results that the folder holds are not computed again.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

from rlop.command import run_script
from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments.baselines import SEEDS, STEPS
from rlop.experiments.catalogue import workshop
from rlop.experiments.reproduction import markdown, table
from rlop.experiments.running import Record

WORKER = Path(__file__).with_name("supervised.py")
LIMIT = 900  # seconds for one experiment
PACKAGES = ("torch", "numpy", "scikit-learn")


def run_one(name: str, seed: int, out: Path) -> Record:
    """Run one experiment in its own process; return its record, or one with the error."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, WORKER, name, "--seed", str(seed), "--out", out]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"no result after {LIMIT} s"}

    if done.returncode:
        messages = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"name": name, "error": messages[-1]}
    return json.loads((out / f"{name}.json").read_text())


def run_experiments(names: Sequence[str], options: argparse.Namespace) -> bool:
    """Run, print and write; return whether every experiment came to a verdict."""
    options.out.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(lambda name: run_one(name, options.seed, options.out), names):
            records.append(record)
            print(table([record]), flush=True)

    write(records, options.out)
    print(f"\nresults.json, REPRODUCTION.md and pictures: {options.out}")
    return not any("error" in record for record in records)


def write(records: Sequence[Record], out: Path) -> None:
    """Write results.json, where new records replace old ones, and REPRODUCTION.md from all."""
    path = out / "results.json"
    old = json.loads(path.read_text())["experiments"] if path.exists() else []
    by_name = {record["name"]: record for record in [*old, *records]}
    kept = [by_name[name] for name in workshop().experiments if name in by_name]

    versions = installed()
    content = json.dumps({"versions": versions, "experiments": kept}, indent=1, allow_nan=False)
    write_atomic(path, content.encode())
    write_atomic(out / "REPRODUCTION.md", markdown(kept, versions).encode())


def installed() -> dict[str, str]:
    """Return package -> version, for those that are installed."""
    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def run_baselines(options: argparse.Namespace) -> bool:
    """Train every module alone; write table and picture; return whether all of them succeeded."""
    from rlop.experiments import baselines, baselines_table

    folder = options.out / "baselines"
    folder.mkdir(parents=True, exist_ok=True)
    baselines.collect_cartpole(folder)

    jobs = baselines.jobs()
    work = partial(baselines.run_job, folder=folder, steps=options.steps, seeds=options.seeds)
    records: list[baselines.Record] = []

    with ProcessPoolExecutor(options.jobs, get_context("spawn"), baselines.prepare_process) as pool:
        for job, record in zip(jobs, pool.map(work, jobs)):
            records.append(record)
            error = record.get("error", "")
            print(f"{len(records)} of {len(jobs)}: {job.name} {error}", flush=True)

    write_atomic(options.out / "baselines.json", json.dumps(records, indent=1).encode())
    write_atomic(options.out / "BASELINES.md", baselines_table.markdown(records).encode())
    baselines_table.draw(records, options.out / "baselines.png")
    print(f"\nbaselines.json, BASELINES.md and baselines.png: {options.out}")

    return not any("error" in record for record in records)


# First words that are not names of experiments -> function that returns whether all succeeded.
COMMANDS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "all": lambda options: run_experiments(workshop().experiments, options),
    "fast": lambda options: run_experiments(workshop().fast_experiments, options),
    "baselines": run_baselines,
}


def main(argv: Sequence[str]) -> None:
    """Run what the command line names; exit with code 1 if something failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names_help = f"{', '.join(COMMANDS)}, or experiments"
    parser.add_argument("names", nargs="+", metavar="NAME", help=names_help)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training of `baselines`")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of `baselines`")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"))
    options = parser.parse_args(argv)

    is_command = len(options.names) == 1 and options.names[0] in COMMANDS
    if is_command:
        all_well = COMMANDS[options.names[0]](options)
    else:
        for name in options.names:
            check_known("experiment", name, [*workshop().experiments, *COMMANDS])
        all_well = run_experiments(options.names, options)
    if not all_well:
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(__file__, main)
