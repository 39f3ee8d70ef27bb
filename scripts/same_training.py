"""Compare two trainings bit for bit: parameters, random streams, record and curves.

    python scripts/same_training.py RUN OTHER

Times are not compared. Exit code 1 if anything else differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rlop.command import guarded, leave_script_folder

leave_script_folder(__file__)  # puts the checkout on the path

import numpy as np  # noqa: E402
import torch  # noqa: E402
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader  # noqa: E402

from rlop.logs.history import EVENTS  # noqa: E402
from rlop.logs.tensorboard import event_pb2  # noqa: E402
from rlop.training.checkpoint import load  # noqa: E402


def same(first: object, second: object) -> bool:
    """Return whether two nested contents of checkpoints are equal bit for bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        return first.detach().numpy().tobytes() == second.detach().numpy().tobytes()
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def record(logdir: Path) -> list[tuple[int, str, list[float | None]]]:
    """Return every number of a record in the order of its lines, except times."""
    rows = []
    for line in (logdir / "metrics.jsonl").read_text().splitlines():
        content = json.loads(line)
        for name, values in content["metrics"].items():
            if not name.startswith("time/"):
                rows.append((content["step"], name, values))
    return rows


def drawn(logdir: Path) -> dict[str, list[tuple[int, str, bytes]]]:
    """Return every point of every run's curves in the order of the files, except times."""
    curves: dict[str, list[tuple[int, str, bytes]]] = {}
    for path in sorted(logdir.glob(f"*/{EVENTS}*")):
        points = curves.setdefault(path.parent.name, [])
        for raw in RawEventFileLoader(str(path)).Load():
            event = event_pb2.Event.FromString(raw)
            for value in event.summary.value:
                is_time = value.tag.startswith(("time/", "final/time/"))
                if not is_time and not value.tag.startswith("_hparams_"):
                    points.append((event.step, value.tag, np.float32(value.simple_value).tobytes()))
    return curves


def differences(first: Path, second: Path) -> list[str]:
    """Name what differs between two trainings: parameters, streams, record, curves.

    Args:
        first: folder of a training.
        second: folder of another one.
    """
    one, other = (load(logdir / "checkpoint.pt") for logdir in (first, second))
    found = [name for name in ("step", "state", "streams") if not same(one[name], other[name])]
    if not same(one["training"]["after"]["sums"], other["training"]["after"]["sums"]):
        found.append("sums")
    if record(first) != record(second):
        found.append("record")
    if drawn(first) != drawn(second):
        found.append("curves")
    return found


def compare(argv: list[str]) -> None:
    """Say whether two trainings are equal bit for bit: parameters, random streams, record, curves.

    Times are not compared. Exit code 1 if anything else differs.
    """
    parser = argparse.ArgumentParser(description=compare.__doc__)
    parser.add_argument("run", type=Path, help="folder of a training")
    parser.add_argument("other", type=Path, help="folder of another one")
    args = parser.parse_args(argv)
    found = differences(args.run, args.other)
    print(f"these differ: {', '.join(found)}" if found else "equal bit for bit, except times")
    sys.exit(bool(found))


if __name__ == "__main__":
    sys.exit(guarded(compare))
