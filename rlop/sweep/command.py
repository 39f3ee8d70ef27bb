"""`rlop sweep`: from its file to the launches that have ended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlop.sweep.driver import drive
from rlop.sweep.dry_run import preview
from rlop.sweep.executor import Executor
from rlop.sweep.file import over, read_sweep
from rlop.sweep.launches import Checked, groups
from rlop.sweep.plan import Pack, Plan, check_same, checked, make_plan, read_plan, write_plan
from rlop.sweep.processes import Processes
from rlop.sweep.sizing import measured
from rlop.sweep.worker import is_done
from rlop.training import lock
from rlop.training.run import data_of, is_to_be_collected
from rlop.types import InputError

NO_CLUSTER = (
    "--cluster and --minutes: are no options any more: start Ray in an allocation and give "
    "--address auto, see docs/sweeps.md"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `rlop sweep` to its parser."""
    add = parser.add_argument
    add("file", help="file of a sweep, or the name of a shipped one; --key value holds for all")
    add(
        "--over",
        nargs="+",
        action="append",
        metavar="WORD",
        help="KEY VALUE ...: FILE is a configuration, of which this key is varied",
    )
    add("--logdir", type=Path, help="folder of the sweep; default: runs/FILE")
    add("--pack", default="auto", help="configurations of one process at most; auto: measured")
    add("--jobs", type=int, help="launches at a time; default 1, on a cluster all that fit")
    add("--address", help="Ray: local starts it here, auto or HOST:PORT joins a cluster")
    add("--cpus", type=float, help="Ray: cores of a launch; default 1")
    add("--gpus", type=float, help="Ray: GPUs of a launch, as in 1 or 0.25; default 0")
    add("--memory", type=float, help="GiB of a launch: bounds packs, and is reserved in Ray")
    add("--dry-run", action="store_true", help="print launches, time and memory; run nothing")
    add("--cluster", help=argparse.SUPPRESS)
    add("--minutes", help=argparse.SUPPRESS)


def sweep(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Run the launches of a sweep that are not finished.

    Args:
        args: of `add_options`.
        rest: `--key value ...` for all configurations.
    Raises:
        InputError: for any value of any configuration that does not fit, before anything starts;
            after all have ended, for launches that failed.
    """
    pack = _check_options(args)
    source = over(args.file, args.over, rest) if args.over else read_sweep(args.file, rest)
    items = checked(source)
    folder = Path("runs", source.path.stem) if args.logdir is None else args.logdir.expanduser()
    if args.dry_run:
        print(_preview(items, _recorded(items, pack, folder), pack, args))
        return

    folder.mkdir(parents=True, exist_ok=True)
    held = lock.acquire(folder)
    try:
        plan = _recorded(items, pack, folder)
        if plan is None:
            plan = make_plan(items, pack, args.jobs or 1, _mebibytes(args), gpus=args.gpus)
            write_plan(plan, folder)
        if not all(is_done(folder, launch) for launch in plan.launches):
            _collect(items)
            drive(plan, folder, _executor(plan, folder, args))
    finally:
        lock.release(held)
    print(f"all {len(plan.launches)} launches are finished; compare them: rlop report {folder}")


def _check_options(args: argparse.Namespace) -> Pack:
    """Check the options for themselves; return the size of packs."""
    if args.cluster is not None or args.minutes is not None:
        raise InputError(NO_CLUSTER)
    pack = args.pack
    if pack != "auto":
        if not pack.isdecimal() or int(pack) < 1:
            raise InputError(f"--pack {pack}: expected auto, or a number of at least 1")
        pack = int(pack)
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: expected at least 1")
    for name in ("cpus", "gpus", "memory"):
        value = args.__dict__[name]
        if value is not None and not value > 0:
            raise InputError(f"--{name} {value:g}: expected a number > 0")
        if value is not None and name != "memory" and args.address is None:
            raise InputError(f"--{name}: of a cluster, expected --address with it")
    return pack


def _recorded(items: Sequence[Checked], pack: Pack, folder: Path) -> Plan | None:
    """Return the plan in a folder, if there is one.

    Raises:
        InputError: it is that of another sweep.
    """
    plan = read_plan(folder)
    if plan is not None:
        check_same(plan, items, pack, folder)
    return plan


def _preview(
    items: Sequence[Checked], recorded: Plan | None, pack: Pack, args: argparse.Namespace
) -> str:
    """Return the text of a dry run."""
    found = groups(items)
    costs = measured(found)
    jobs = args.jobs or 1
    plan = recorded or make_plan(items, pack, jobs, _mebibytes(args), costs, args.gpus)
    return preview(plan, found, costs, jobs)


def _mebibytes(args: argparse.Namespace) -> float | None:
    return None if args.memory is None else args.memory * 1024


def _collect(items: Sequence[Checked]) -> None:
    """Make the data files that are missing, each once, before launches want them together."""
    for item in items:
        if is_to_be_collected(item.experiment):
            data_of(item.experiment)


def _executor(plan: Plan, folder: Path, args: argparse.Namespace) -> Executor:
    if args.address is not None:
        from rlop.sweep.cluster import Cluster, Needs

        needs = Needs(args.cpus or 1.0, args.gpus or 0.0, args.memory or 0.0)
        return Cluster(plan, folder, args.address, args.jobs, needs)
    return Processes(folder, args.jobs or 1)
