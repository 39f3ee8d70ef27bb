"""Compare the cost of rlop with plain PyTorch, installed peers and the machine's limit.

    make bench                                        # with the peers, in a separate environment
    python scripts/benchmark.py update --cases cql    # one update of every contestant
    python scripts/benchmark.py update --cases actors # beside d3rlpy, and CORL in $CORL_DIR
    python scripts/benchmark.py update --against DIR  # this checkout against another one
    python scripts/benchmark.py overhead              # probe, log, evaluation; each regularizer
    python scripts/benchmark.py runs                  # eight runs in one process, or in eight
    python scripts/benchmark.py start                 # imports, first update, compilation
    python scripts/benchmark.py data                  # loading 1,000,000 transitions
    python scripts/benchmark.py sampling              # batches of stacked frames
    python scripts/benchmark.py frames                # of RL Unplugged in $RLU_DIR, beside Pillow
    python scripts/benchmark.py all
    python scripts/benchmark.py jax --cases dqn-64-32 --runs 1 8    # beside JAX; the end of all
    python scripts/benchmark.py jax-page docs/speed.jsonl docs/speed.md    # its tables in a page
    python scripts/benchmark.py operations            # of an eager update, counted
    python scripts/benchmark.py gpu                   # what only a GPU shows, not part of all
    python scripts/benchmark.py gpu-page docs/gpu.jsonl docs/gpu.md    # its tables in a page

Compare ratios, not absolute times: machines differ and are noisy. Contestants are measured in turn,
A B A B, and a ratio is the median over rounds of the ratio within a round. With one thread, CPU
time is compared, which other processes on the machine disturb least; with more threads, wall-clock
time. Nothing is installed: a peer that cannot be imported is reported in one line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from rlop.command import guarded, leave_script_folder

leave_script_folder(__file__)  # puts the checkout on the path, for the imports from `scripts`

from rlop.config.files import write_atomic  # noqa: E402
from scripts.bench import (  # noqa: E402
    against,
    answering,
    beside_jax,
    frames,
    loading,
    operations,
    overhead,
    sampling,
    side_by_side,
    start,
    updates,
)
from scripts.bench.gpu import run as gpu  # noqa: E402
from scripts.bench.measure import machine  # noqa: E402
from scripts.bench.problems import CASES, JAX_PROBLEMS  # noqa: E402

SCRIPT = str(Path(__file__).resolve())
SUBJECTS = ("update", "overhead", "runs", "start", "data", "sampling", "frames")
# Commands of the processes that the subjects start.
INNER = {"one": updates.one, "worker": side_by_side.worker}
# Commands with options of their own.
OTHERS = {
    "jax": lambda options: beside_jax.benchmark(options, SCRIPT),
    "jax-page": beside_jax.write_page,
    "answer": answering.answer,
    "operations": operations.benchmark,
    "gpu": lambda options: gpu.benchmark(options, SCRIPT),
    "gpu-piece": gpu.piece,
    "gpu-page": gpu.write_page,
}


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line names."""
    options = parse(argv)
    if options.what in OTHERS:
        OTHERS[options.what](options)
        return
    if options.what not in INNER and options.rounds is None:
        options.rounds = 7 if options.against is None else 30
    if options.what in INNER:
        print(json.dumps(INNER[options.what](options)))
        return

    for subject in SUBJECTS if options.what == "all" else (options.what,):
        run(subject, options)
    if options.what == "all":
        main(["jax"])


def run(subject: str, options: argparse.Namespace) -> None:
    """Measure one subject and add it to the record, which keeps the others."""
    print(f"\n== {subject}", flush=True)
    settings = {name: str(value) for name, value in options.__dict__.items() if name != "out"}
    content: dict[str, object] = {"machine": machine(), "options": settings}

    if subject == "update" and options.against is not None:
        run_against(content, options)
    elif subject == "update":
        run_updates(content, options)
    else:
        calls: dict[str, Callable[[], object]] = {
            "overhead": lambda: overhead.benchmark(options),
            "runs": lambda: side_by_side.benchmark(options, SCRIPT),
            "start": lambda: start.benchmark(options, SCRIPT),
            "data": loading.benchmark,
            "sampling": sampling.benchmark,
            "frames": frames.benchmark,
        }
        content["found"] = calls[subject]()
        save(subject, content, options.out)


def run_updates(content: dict[str, object], options: argparse.Namespace) -> None:
    """Measure the update of every contestant; save after every case, since all take long."""
    cases = []
    for case in updates.benchmark(options, SCRIPT):
        cases.append(case)
        save("update", {**content, "cases": cases}, options.out)


def run_against(content: dict[str, object], options: argparse.Namespace) -> None:
    """Compare the update with that of another checkout."""
    chosen = against.cases(options.cases, options.compiled)
    comparisons = []
    for comparison in against.benchmark(options.against, chosen, options.rounds, options.seconds):
        comparisons.append(comparison)
        print(f"{comparison['case']}: {comparison['ratio']:.3f}", flush=True)
        save("against", {**content, "cases": comparisons}, options.out)
    print("\n" + against.text(comparisons))


def save(subject: str, content: dict[str, object], out: Path) -> None:
    """Replace the subject's part of the JSON record at `out`, atomically."""
    record = json.loads(out.read_text()) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, json.dumps({**record, subject: content}, indent=1).encode())


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name in (*SUBJECTS, "all"):
        add_options(commands.add_parser(name), name)

    for name in INNER:
        add_inner_options(commands.add_parser(name, help="used by the others"), name)
    add_inner_options(commands.add_parser("answer", help="used by jax"), "answer")
    add_jax_options(commands.add_parser("jax"))
    add_operations_options(commands.add_parser("operations"))
    add_gpu_options(commands.add_parser("gpu"))
    add_piece_options(commands.add_parser("gpu-piece", help="used by gpu"))
    for name in ("jax", "gpu"):
        page = commands.add_parser(f"{name}-page", help=f"write the tables of {name} into a page")
        add_page_options(page)
    return parser.parse_args(argv)


def add_options(parser: argparse.ArgumentParser, subject: str) -> None:
    """Declare the options of a subject."""
    out, rows = Path("runs/benchmark.json"), 100_000
    seconds = 5.0 if subject == "runs" else 0.5
    contestants = list(updates.NAMES)

    parser.add_argument("--out", type=Path, default=out, help="JSON record, default %(default)s")
    parser.add_argument(
        "--rows", type=int, default=rows, help="transitions in memory, default %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=None, help="default 7; 30 with --against")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="of a measurement, default %(default)s"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="runs, --against: the compiled update too"
    )
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--contestants", nargs="+", choices=contestants, default=contestants)
    parser.add_argument(
        "--fresh",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="first call and peak memory of each contestant in a process of its own",
    )
    parser.add_argument(
        "--against",
        type=Path,
        default=None,
        metavar="CHECKOUT",
        help="update: compare with the rlop in this folder instead, such as an older commit",
    )


def add_inner_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare the options of a process that a subject starts."""
    parser.add_argument("problem")
    if name in ("one", "answer"):
        parser.add_argument("contestant")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=100_000)


def add_jax_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `jax`."""
    names, folder = list(JAX_PROBLEMS), Path("runs/speed")
    parser.add_argument("--folder", type=Path, default=folder, help="default %(default)s")
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    runs = beside_jax.RUNS
    parser.add_argument("--runs", nargs="+", type=int, default=runs, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a measurement")
    parser.add_argument("--rows", type=int, default=100_000, help="transitions in memory")


def add_operations_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `operations`."""
    names = list(JAX_PROBLEMS)
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--rows", type=int, default=2_000, help="transitions in memory")


def add_gpu_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpu`."""
    pieces, folder = list(gpu.PIECES), Path("runs/gpu")
    parser.add_argument("--folder", type=Path, default=folder, help="default %(default)s")
    parser.add_argument("--pieces", nargs="+", choices=pieces, default=pieces)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of a piece")
    add_effort_options(parser)


def add_piece_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the process of one piece."""
    parser.add_argument("piece", choices=list(gpu.PIECES))
    parser.add_argument("record", type=Path)
    add_effort_options(parser)


def add_page_options(parser: argparse.ArgumentParser) -> None:
    """Declare the record and the page."""
    parser.add_argument("record", type=Path, help="JSON lines in the folder of what was measured")
    parser.add_argument("page", type=Path, help="with a place for every table, as docs/gpu.md")


def add_effort_options(parser: argparse.ArgumentParser) -> None:
    """Declare how much is measured, and where."""
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.25, help="of a measurement")


if __name__ == "__main__":
    sys.exit(guarded(main))
