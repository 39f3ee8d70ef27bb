"""The command `rlop doctor`: its options, and what it prints or writes."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rlop.data.load import load_dataset
from rlop.doctor.diagnosis import Diagnosis, diagnose
from rlop.doctor.source import data_of
from rlop.doctor.text import as_text
from rlop.doctor.words import CAVEATS
from rlop.interop.networks import READERS, load_network
from rlop.logs.history import RECORD, read_metrics
from rlop.training.checkpoint import load_agent
from rlop.training.folder import CHECKPOINT, CONFIG
from rlop.types import InputError

VALUES = ("q", "critic_1", "critic_2")  # parts of foreign files that give values of actions


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `rlop doctor`.

    Args:
        parser: of the command.
    """
    add = parser.add_argument
    add("checkpoint", type=Path, help="checkpoint.pt or its folder; with --from a foreign file")
    add("--data", help="file or name, as in `data:`; default: what the folder's configuration says")
    add("--html", type=Path, metavar="FILE", help="also write a page that opens in a browser")
    add("--from", dest="kind", choices=list(READERS), help="whose file it is, if not ours")
    add("--part", choices=[*VALUES, "actor"], help="with --from: its network")
    add("--gamma", type=float, default=0.99, help="with --from: discount of its values")
    add(
        "--refit-steps",
        type=int,
        default=100,
        metavar="N",
        help="budget of the plasticity probe, 0 for none; large networks take long",
    )


def doctor(args: argparse.Namespace) -> None:
    """Diagnose what a command names, and print it.

    Args:
        args: from a parser with `add_options` and `--allow`.
    """
    path: Path = args.checkpoint.expanduser()
    if args.kind is not None:
        show(foreign(path, args), args, config=None)
        return
    if args.part is not None:
        raise InputError(f"--part {args.part}: expected --from with it")

    path = path / CHECKPOINT if path.is_dir() else path
    agent, _ = load_agent(path, allow=args.allow)
    folder = path.parent
    data = data_of(folder, args.data, args.allow)
    history = read_metrics(folder) if (folder / RECORD).is_file() else None
    if history is not None and history.labels != list(agent.runs.labels):
        history = None  # the record beside the checkpoint is of another training

    found = diagnose(agent, data, history=history, refit_steps=args.refit_steps)
    config = folder / CONFIG
    show(found, args, shlex.quote(str(config)) if config.is_file() else "CONFIG.yaml")


def foreign(path: Path, args: argparse.Namespace) -> list[Diagnosis]:
    """Diagnose a network of another library on a data set; by default its values, if it has any."""
    if args.data is None:
        raise InputError("--data: expected a data set with --from")
    data = load_dataset(args.data)
    part = args.part
    if part is None:
        try:
            network, part = load_network(path, args.kind, "q"), "q"
        except InputError:
            network = load_network(path, args.kind)
    else:
        network = load_network(path, args.kind, part)

    gives = "q" if part in VALUES else "features"
    if part == "actor" and data.spec.n_actions is None:
        gives = "actions"
    return diagnose(network, data, gives=gives, gamma=args.gamma, refit_steps=args.refit_steps)


def show(found: list[Diagnosis], args: argparse.Namespace, config: str | None) -> None:
    """Print diagnoses, and write the page if it is asked for.

    Args:
        found: one for each run.
        args: of the command.
        config: see `rlop.doctor.words.remedy`.
    """
    data = shlex.quote(args.data) if args.data else None
    for diagnosis in found:
        print(as_text(diagnosis, config, data), end="\n\n")
    for caveat in CAVEATS:
        print(caveat)

    if args.html is not None:
        from rlop.doctor.page import write_page

        write_page(args.html, str(args.checkpoint), found, config, data)
        print(f"\npage: {args.html}")
