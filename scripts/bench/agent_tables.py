"""The table of `update` in a page: what an update of every agent costs, beside its peers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlop.config.files import write_atomic
from rlop.types import InputError
from scripts.bench.gpu.text import filled
from scripts.bench.jax_tables import spread
from scripts.bench.updates import Contestant, Result

PEERS = {"corl": "CORL", "d3rlpy": "d3rlpy"}
OURS = {"rlop": "eager", "rlop compiled": "compiled"}


def write_page(options: argparse.Namespace) -> None:
    """Replace the table of a page by that of a record.

    Raises:
        InputError: a record without `update`.
    """
    record = json.loads(options.record.read_text())
    if "update" not in record:
        raise InputError(f"{options.record}: expected a record of `benchmark.py update`")
    page = filled(options.page.read_text(), rows(record["update"]))
    write_atomic(options.page, page.encode())


def rows(update: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return the row of the machine and those of the cases on one thread, each with its piece."""
    about, settings = update["machine"], update["options"]
    machine = {"piece": "machine", "CPU": about["cpu"], "time": about["time"]}
    machine |= {"rounds": settings["rounds"], "seconds of a measurement": settings["seconds"]}
    for package in ("torch", "d3rlpy"):
        machine[package] = about["versions"][package]
    return [machine, *(row(case) for case in cases_on_one_thread(update["cases"]))]


def cases_on_one_thread(cases: Iterable[Result]) -> list[Result]:
    """Return the cases whose CPU time is that of one thread."""
    return [case for case in cases if case["threads"] == 1]


def row(case: Result) -> dict[str, object]:
    """Return milliseconds of every contestant, and how many times faster ours is."""
    contestants = case["contestants"]
    cells: dict[str, object] = {"piece": "updates", "case": case["problem"]}
    for name, title in {**PEERS, **OURS}.items():
        cells[f"{title}, ms"] = spread(rounds(contestants[name])) if name in contestants else None
    for peer, of in PEERS.items():
        for name, title in OURS.items():
            cells[f"{of} / {title}"] = times_faster(contestants, peer, name)
    return cells


def rounds(contestant: Contestant) -> Sequence[float]:
    """Return the CPU milliseconds of an update in each round."""
    return contestant["cpu_ms"]["rounds"]


def times_faster(contestants: Mapping[str, Contestant], peer: str, ours: str) -> str | None:
    """Write the ratio of the peer's cost to ours within a round: median, lowest and highest."""
    if peer not in contestants or ours not in contestants:
        return None
    pairs = zip(rounds(contestants[peer]), rounds(contestants[ours]), strict=True)
    return spread([theirs / own for theirs, own in pairs])
