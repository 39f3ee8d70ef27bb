"""Reproduce the workshop: run experiments over seeds, judge them, write the page of verdicts.

    python scripts/reproduce.py all --seeds 5              # every abstract; hours, see --jobs
    python scripts/reproduce.py all --seeds 5 --rows 44 13 # these abstracts alone
    python scripts/reproduce.py all --fast                 # one seed, no controls, no verdicts
    python scripts/reproduce.py label_noise robust_ridge   # these experiments alone
    python scripts/reproduce.py page --out .               # write the page again from its records
    python scripts/reproduce.py baselines                  # every module alone; about an hour

Writes into the folder --out: REPRODUCTION.md, docs/reproduction.jsonl with all numbers, one
picture for each abstract in docs/reproduction, and parts, what each process came to. Every
experiment runs for the seeds 101, 102, ... and so does its control, each in a process of its own on
one thread. What is finished is not run again, unless the source of the experiment or a package
changed: a run that was stopped goes on where it was. The exit code is 1 if anything failed.

`baselines` trains every regularizer, projection, optimizer, layer and reset at three strengths and
eight seeds, and writes BASELINES.md, baselines.json and baselines.png; results that the folder
holds are not computed again.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from rlop.command import run_script
from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments.baselines import SEEDS, STEPS
from rlop.experiments.catalogue import workshop
from rlop.experiments.outcome import Outcome
from rlop.experiments.pictures import draw
from rlop.experiments.provenance import band_commits
from rlop.experiments.records import (
    PARTS,
    RUN,
    Record,
    Records,
    installed,
    is_finished,
    read_records,
    write_records,
)
from rlop.experiments.reproduction import PICTURES, lines_of, markdown, summary
from rlop.experiments.running import file_of, load
from rlop.types import InputError

WORKER = Path(__file__).with_name("supervised.py")
LIMIT = 900  # seconds for one process
FIRST_SEED = 101  # of the deciding runs; experiments are designed with the seeds 1 to 3
DECIDING = 5  # seeds, by default
FAST_SEED = 1
RECORDS = "docs/reproduction.jsonl"


class Job(NamedTuple):
    """One process: an experiment, its seed, and whether its control runs."""

    name: str
    seed: int
    part: str


def jobs_of(names: Sequence[str], seeds: int, fast: bool) -> list[Job]:
    """List what is to run, seed by seed."""
    if fast:
        return [Job(name, FAST_SEED, RUN) for name in names]

    jobs: list[Job] = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for name in names:
            jobs.extend(Job(name, seed, part) for part in PARTS)
    return jobs


def finished(job: Job, out: Path) -> tuple[Record, Outcome] | None:
    """Return what an earlier process came to, None if it must run."""
    path = file_of(out, *job)
    if not path.exists():
        return None
    try:
        record, outcome = load(path)
    except InputError as error:
        print(f"{error}; it runs again")
        return None
    return (record, outcome) if is_finished(record, installed()) else None


def run_job(job: Job, out: Path) -> str:
    """Run a job that is not finished; return "" or why it failed."""
    if finished(job, out) is not None:
        return ""

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), job.name, "--seed", str(job.seed)]
    command += ["--part", job.part, "--out", str(out)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no result after {LIMIT} s"
    if done.returncode:
        messages = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return messages[-1]
    return ""


def run_experiments(options: argparse.Namespace) -> bool:
    """Run, print and write; return whether nothing failed."""
    names = options.names
    if names == ["all"]:
        names = workshop().experiments_of(options.rows) if options.rows else workshop().experiments
    jobs = jobs_of(names, options.seeds or DECIDING, options.fast)
    options.out.mkdir(parents=True, exist_ok=True)

    failures: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        messages = pool.map(partial(run_job, out=options.out), jobs)
        for count, (job, message) in enumerate(zip(jobs, messages), 1):
            print(f"{count} of {len(jobs)}: {told(job, message, options)}", flush=True)
            if message:
                failures.append(f"{job.name}, seed {job.seed}, {job.part}: {message}")

    if options.fast:
        print("\none seed: no verdict")
    else:
        write_results(options)
    if failures:
        print("\nfailed:", *failures, sep="\n  ")
    return not failures


def told(job: Job, message: str, options: argparse.Namespace) -> str:
    """Return what is printed when a job has ended."""
    result = finished(job, options.out)
    if message or result is None:
        return f"{job.name}, seed {job.seed}, {job.part} FAILED: {message}"
    return lines_of(result[0], workshop().measures_of(job.name))


def write_results(options: argparse.Namespace) -> None:
    """Write records, pictures and page from everything that the folder holds for these seeds."""
    catalogue = workshop()
    records: list[Record] = []
    outcomes: dict[str, list[Outcome]] = {}
    seeds = options.seeds or DECIDING
    for job in jobs_of(catalogue.experiments, seeds, fast=False):
        result = finished(job, options.out)
        if result is not None:
            records.append(result[0])
            if job.part == RUN:
                outcomes.setdefault(job.name, []).append(result[1])

    rows = [] if options.rows is None else ["--rows", *map(str, options.rows)]
    words = [*options.names, "--seeds", str(seeds), *rows]
    command = f"python scripts/reproduce.py {shlex.join(words)}"
    write_records(Records(tuple(records), command), options.out / RECORDS)
    try:
        draw_pictures(outcomes, options.out / PICTURES)
    except InputError as error:
        print(error)  # without matplotlib, the numbers are still useful
    write_page(options)


def draw_pictures(outcomes: dict[str, list[Outcome]], folder: Path) -> None:
    """Write one picture for each abstract that has curves."""
    folder.mkdir(parents=True, exist_ok=True)
    for abstract in workshop().abstracts:
        panels = [(name, outcomes.get(name, [])) for name in abstract.experiments]
        if any(runs for _, runs in panels):
            draw(panels, folder / f"{abstract.number}.png")


def write_page(options: argparse.Namespace) -> bool:
    """Write REPRODUCTION.md from the records in the folder, and print its summary."""
    catalogue = workshop()
    records = read_records(options.out / RECORDS)
    pictures = {int(path.stem) for path in (options.out / PICTURES).glob("*.png")}
    page = markdown(catalogue, records, band_commits(), pictures)
    write_atomic(options.out / "REPRODUCTION.md", page.encode())

    ran = {record.experiment for record in records.records}
    rows = [row.number for row in catalogue.abstracts if ran & set(row.experiments)]
    print(f"\n{summary(catalogue, records, rows)}\n\n{options.out / 'REPRODUCTION.md'}")
    return True


def run_baselines(options: argparse.Namespace) -> bool:
    """Train every module alone; write table and picture; return whether all of them succeeded."""
    from rlop.experiments import baselines, baselines_table

    folder = options.out / "baselines"
    folder.mkdir(parents=True, exist_ok=True)
    baselines.collect_cartpole(folder)

    jobs = baselines.jobs()
    seeds = options.seeds or SEEDS
    work = partial(baselines.run_job, folder=folder, steps=options.steps, seeds=seeds)
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
    "all": run_experiments,
    "page": write_page,
    "baselines": run_baselines,
}


def main(argv: Sequence[str]) -> None:
    """Run what the command line names; exit with code 1 if something failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names_help = f"{', '.join(COMMANDS)}, or experiments"
    parser.add_argument("names", nargs="+", metavar="NAME", help=names_help)
    seeds_help = f"how many, from {FIRST_SEED} on; {DECIDING}, of `baselines` {SEEDS}"
    parser.add_argument("--seeds", type=int, help=seeds_help)
    parser.add_argument("--rows", type=int, nargs="+", help="abstracts of `all`; all of them")
    parser.add_argument("--fast", action="store_true", help="one seed, no controls, no verdicts")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training of `baselines`")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"))
    options = parser.parse_args(argv)

    first = options.names[0]
    is_command = len(options.names) == 1 and first in COMMANDS
    if not is_command:
        for name in options.names:
            check_known("experiment", name, [*workshop().experiments, *COMMANDS])
    if not COMMANDS.get(first if is_command else "", run_experiments)(options):
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(__file__, main)
