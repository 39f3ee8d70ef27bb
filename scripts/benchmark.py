"""The yardstick: what rlop costs, beside plain PyTorch, the peers that are installed, and the machine's own limit.

    make bench                                          # with the peers, in an environment of their own
    python scripts/benchmark.py update --cases cql      # one update of everybody
    python scripts/benchmark.py overhead                # probe, log, evaluation, checkpoint; each regularizer
    python scripts/benchmark.py runs                    # eight runs in one process, or in eight
    python scripts/benchmark.py start                   # imports, first update, compilation
    python scripts/benchmark.py data                    # loading 1,000,000 transitions
    python scripts/benchmark.py sampling                # batches of stacked frames
    python scripts/benchmark.py all

Ratios count, not absolute times: machines differ and are noisy. Contestants are measured in turn, A B A B, and a ratio
is the median over rounds of the ratio within a round. With one thread CPU time is compared, which neighbours on the
machine disturb least; with more, time on the wall. Nothing is installed: a peer that cannot be imported is a line that
says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if (
    __name__ == "__main__"
):  # in place of this folder, whose mujoco.py and minatar.py hide the packages of that name
    sys.path[0] = str(ROOT)

from rlop.config.files import write_atomic  # noqa: E402
from scripts.bench import loading, overhead, sampling, side_by_side, start, updates  # noqa: E402
from scripts.bench.measure import machine  # noqa: E402
from scripts.bench.problems import CASES  # noqa: E402

SCRIPT = str(Path(__file__).resolve())
SUBJECTS = ("update", "overhead", "runs", "start", "data", "sampling")
INNER = {"one": updates.one, "worker": side_by_side.worker}  # what the processes run that we start


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    if options.what in INNER:
        print(json.dumps(INNER[options.what](options)))
        return
    for subject in SUBJECTS if options.what == "all" else (options.what,):
        run(subject, options)


def run(subject: str, options: argparse.Namespace) -> None:
    """Measure one subject and put it into the record, where the others stay as they are."""
    print(f"\n== {subject}", flush=True)
    content = {
        "machine": machine(),
        "options": {k: v for k, v in vars(options).items() if k != "out"},
    }
    if subject == "update":
        content["cases"] = []
        for case in updates.benchmark(options, SCRIPT):
            content["cases"].append(case)
            save(subject, content, options.out)  # after every case: the whole takes long
        return
    calls: dict[str, Any] = {
        "overhead": lambda: overhead.benchmark(options),
        "runs": lambda: side_by_side.benchmark(options, SCRIPT),
        "start": lambda: start.benchmark(options, SCRIPT),
        "data": loading.benchmark,
        "sampling": sampling.benchmark,
    }
    save(subject, {**content, "found": calls[subject]()}, options.out)


def save(subject: str, content: dict[str, Any], out: Path) -> None:
    """Replace the subject's part of the JSON record at `out`, atomically."""
    record = json.loads(out.read_text()) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, json.dumps({**record, subject: content}, indent=1).encode())


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name in (*SUBJECTS, "all"):
        add_options(commands.add_parser(name), name)
    for name in INNER:
        inner = commands.add_parser(name, help="used by the others")
        inner.add_argument("problem")
        if name == "one":
            inner.add_argument("contestant")
        inner.add_argument("--runs", type=int, default=1)
        inner.add_argument("--compiled", action="store_true")
        inner.add_argument("--seconds", type=float, default=1.0)
        inner.add_argument("--threads", type=int, default=1)
        inner.add_argument("--rows", type=int, default=100_000)
    return parser.parse_args(argv)


def add_options(parser: argparse.ArgumentParser, subject: str) -> None:
    seconds = 5.0 if subject == "runs" else 0.5
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/benchmark.json"),
        help="JSON record, default %(default)s",
    )
    parser.add_argument(
        "--rows", type=int, default=100_000, help="transitions in memory, default %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=7, help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="of a measurement, default %(default)s"
    )
    parser.add_argument("--compiled", action="store_true", help="runs: the compiled update")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--contestants", nargs="+", choices=updates.NAMES, default=list(updates.NAMES)
    )
    parser.add_argument(
        "--fresh",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="first call and peak memory of each contestant in a process of its own",
    )


if __name__ == "__main__":
    main()
