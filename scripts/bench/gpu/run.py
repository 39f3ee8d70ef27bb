"""`gpu`: all that a GPU must show, each piece in a process of its own, written as it is found.

A piece that fails, or takes too long, is one line; the others go on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import TypeAlias

import torch

from rlop.config.files import write_atomic
from scripts.bench.gpu.text import filled, report
from scripts.bench.gpu.timing import Effort, Row

Part: TypeAlias = Callable[[Effort], Iterator[Row]]

RECORD = "gpu.jsonl"
REPORT = "gpu.md"
# Name -> where its parts stand, and what the report calls it. Short ones that tell most come first.
PIECES = {
    "single": ("speed:SINGLE", "One run"),
    "many": ("speed:MANY", "Many runs in one process"),
    "waits": ("checks:WAITS", "Waits of the host"),
    "equality": ("checks:EQUALITY", "Graphs, eager updates and the CPU"),
    "stacks": ("stacks:STACKS", "256 runs, beside JAX"),
    "curves": ("precision:CURVES_AGREE", "Learning curves by precision"),
    "cost": ("precision:COST", "Cost by precision"),
    "feeding": ("feeding:FEEDING", "Stacked frames"),
    "resume": ("checks:RESUME", "Checkpoints"),
}


def benchmark(options: argparse.Namespace, script: str) -> None:
    """Measure every piece that the options name."""
    options.folder.mkdir(parents=True, exist_ok=True)
    record = options.folder / RECORD
    forget(record, options.pieces)
    write_row(record, {"piece": "machine", **machine(options.device)})
    for piece in options.pieces:
        started = time.perf_counter()
        print(f"== {piece}", flush=True)
        error = run_piece(piece, options, script, record)
        if error:
            write_row(record, {"piece": piece, "error": error})

        write_report(options.folder)
        seconds = time.perf_counter() - started
        print(f"== {piece}: {seconds:.0f} s{', ' + error if error else ''}", flush=True)


def run_piece(piece: str, options: argparse.Namespace, script: str, record: Path) -> str:
    """Run one piece in a process of its own; return what went wrong with it, or nothing."""
    command = [sys.executable, script, "gpu-piece", piece, str(record)]
    command += ["--device", options.device, "--rounds", str(options.rounds)]
    command += ["--seconds", str(options.seconds)]
    try:
        done = subprocess.run(command, timeout=options.limit, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {options.limit:.0f} s"
    return f"ended with exit code {done.returncode}" if done.returncode else ""


def piece(options: argparse.Namespace) -> None:
    """Run the parts of one piece, and add each line to the record at once."""
    torch.set_num_threads(1)
    effort = Effort(options.device, options.rounds, options.seconds)
    for part in parts_of(options.piece):
        try:
            for row in part(effort):
                show(row)
                write_row(options.record, {"piece": options.piece, **row})
        except Exception as error:  # whatever fails on a card, the other parts go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(f"{part}: {reason}", file=sys.stderr, flush=True)
            write_row(options.record, {"piece": options.piece, "part": name(part), "error": reason})


def parts_of(piece: str) -> Sequence[Part]:
    """Return the parts of a piece; nothing is imported for the others."""
    module, _, attribute = PIECES[piece][0].partition(":")
    parts: Sequence[Part] = import_module(f"scripts.bench.gpu.{module}").__dict__[attribute]
    return parts


def name(part: Part) -> str:
    """Return the name of a part: the first argument that it was given, or its function."""
    given = getattr(part, "args", ())
    first = given[0] if given else part
    return str(getattr(first, "name", getattr(first, "__name__", first)))


def show(row: Row) -> None:
    """Print a row in one line."""
    cells = []
    for key, value in row.items():
        cells.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    print("  " + " | ".join(cells), flush=True)


def write_row(record: Path, row: Row) -> None:
    """Add a line to the record."""
    with record.open("a") as file:
        file.write(json.dumps(row) + "\n")


def write_report(folder: Path) -> None:
    """Write the tables of what the record holds so far."""
    headings = {piece: heading for piece, (_, heading) in PIECES.items()}
    write_atomic(folder / REPORT, report(read_rows(folder / RECORD), headings).encode())


def write_page(options: argparse.Namespace) -> None:
    """Replace the tables of a page by those of a record."""
    page = filled(options.page.read_text(), read_rows(options.record))
    write_atomic(options.page, page.encode())


def read_rows(record: Path) -> list[Row]:
    """Return the lines of a record."""
    return [json.loads(line) for line in record.read_text().splitlines()]


def forget(record: Path, pieces: Sequence[str]) -> None:
    """Remove the lines of pieces that are measured again, so that no table has them twice."""
    if not record.exists():
        return
    kept = [row for row in read_rows(record) if row["piece"] not in pieces]
    write_atomic(record, "".join(json.dumps(row) + "\n" for row in kept).encode())


def machine(device: str) -> Row:
    """Describe the card and the versions."""
    row: Row = {"torch": torch.__version__, "time": time.strftime("%Y-%m-%d %H:%M")}
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        row["card"] = properties.name
        row["GiB"] = properties.total_memory / 2**30
        row["CUDA"] = str(torch.version.cuda)
    for package in ("jax", "numpy"):
        try:
            row[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            row[package] = "not installed"
    return row
