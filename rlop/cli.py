"""Commands of `rlop`: demo, train, collect, generate, info, probe, doctor, report, sweep, ...

Each command imports what it needs when it runs, so that showing help does not load PyTorch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlop.command import EXIT_BAD_INPUT, Command, guarded
from rlop.config.checks import closest
from rlop.config.shipped import shipped
from rlop.types import InputError

DEMO = "configs/gridworld/demo.yaml"
SCORES = [
    "eval/return",
    "eval/d4rl_score",
    "eval/normalized_score",
    "eval/human_normalized",
    "eval/dqn_normalized",
    "eval/q_error",
]
SHOWN = [*SCORES, "q/data", "rank/srank", "feature/dot", "run/active"]


def train_command(argv: Sequence[str], default: str | None = None) -> None:
    """`rlop train CONFIG.yaml | --resume RUN [--key value ...]`: train, print metrics and folder.

    Args:
        argv: the arguments.
        default: the shipped configuration to train if the arguments name none.
    """
    arguments = list(argv)
    default_path = None if default is None else shipped(default)
    if _take_flag(arguments, "--schema"):
        return print_schema()
    if _take_flag(arguments, "--help", "-h"):
        return print_help(arguments, default_path)
    if _take_flag(arguments, "--dry-run"):
        return print_plan(arguments, default_path)

    from rlop.report.tables import table
    from rlop.training.devices import train_runs
    from rlop.training.run import from_args

    histories, logdir = train_runs(*from_args(arguments, default_path))
    print(table(histories, [name for name in SHOWN if name in histories[0].metrics]))
    print(f"\ncurves: tensorboard --logdir {logdir}")


def _take_flag(arguments: list[str], *names: str) -> bool:
    """Remove a flag from the arguments; return whether it was among them."""
    given = [argument for argument in arguments if argument in names]
    for argument in given:
        arguments.remove(argument)
    return bool(given)


def print_help(argv: Sequence[str], default: Path | None, command: str = "train") -> None:
    """Print the options of a configuration, or the general ones if none is named.

    Args:
        argv: the arguments without the flag.
        default: the configuration if the arguments name none.
        command: that was asked for help, one of `rlop.training.pages.USAGES`.
    """
    from rlop.training.pages import general_page, page_of

    names_a_file = bool(argv) and not argv[0].startswith("--")
    if not names_a_file and default is None:
        print(general_page(command))
        return

    from rlop.training.run import from_args

    page = page_of(from_args(argv, default)[0], command)
    if command == "train" and default is not None:  # a file in scripts/, which names its default
        script = f"python {sys.argv[0]}"
        page = page.replace("rlop train CONFIG.yaml", f"{script} [CONFIG.yaml]")
        page = page.replace("rlop train", script)
    print(page)


def print_schema() -> None:
    """Print the JSON schema of configuration files."""
    from rlop.training.pages import configuration_schema

    print(json.dumps(configuration_schema(), indent=1))


def print_plan(argv: Sequence[str], default: Path | None) -> None:
    """Print what a configuration would train, without training."""
    from rlop.training.plan import plan
    from rlop.training.run import from_args

    experiment, _ = from_args(argv, default)
    print(plan(experiment))


def demo_command(argv: Sequence[str]) -> None:
    """`rlop demo [--key value ...]`: rank collapse and two treatments of it on a gridworld."""
    arguments = list(argv)
    default_path = shipped(DEMO)
    if _take_flag(arguments, "--help", "-h"):
        return print_help(arguments, default_path, "demo")

    from rlop.experiments.demo import demo

    demo(arguments, default_path)


def collect_command(argv: Sequence[str]) -> None:
    """`rlop collect --env ID | --from SOURCE OUT`: play a policy, or convert data, into a file."""
    parser = _collect_parser()
    args = parser.parse_args(argv)
    if args.source is not None:
        return _convert(parser, args)
    if args.env is None:
        parser.error("expected --env ID, or --from SOURCE")
    if args.format == "npz":
        raise InputError("--format npz: expected --from SOURCE with it")

    import torch

    from rlop.collect.atari import collect_dqn_replay
    from rlop.collect.collector import collect, read_mix

    torch.set_num_threads(1)  # policies are small, and threads only wait for each other
    options = {
        "epsilon": args.epsilon,
        "stochastic": args.stochastic,
        "seed": args.seed,
        "overwrite": args.overwrite,
        "n_envs": args.envs,
    }
    if args.format == "dqn-replay":
        if args.mix or args.layout or args.shuffle:
            raise InputError("--format dqn-replay: expected no --mix, --shuffle or --layout")
        if args.rows_per_file is not None:
            options["rows_per_file"] = args.rows_per_file
        collect_dqn_replay(args.env, args.policy, args.steps, args.out, **options)
        return

    env_kwargs = {"layout": args.layout} if args.layout else None
    shares: Mapping[Any, float] = read_mix(args.mix or [])  # `Mapping` is invariant in its keys
    collect(
        args.env,
        shares or args.policy,
        args.steps,
        args.out,
        shuffle=args.shuffle,
        env_kwargs=env_kwargs,
        **options,
    )


def _convert(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Write a source as a file of another format; every option of playing is refused."""
    known = ("out", "source", "format", "rows_per_file")
    for name, value in args.__dict__.items():
        if name not in known and value != parser.get_default(name):
            raise InputError(f"--{name}: is of playing, expected --from SOURCE without it")

    from rlop.collect.convert import MILLION, convert

    rows_per_file = MILLION if args.rows_per_file is None else args.rows_per_file
    convert(args.source, args.out, args.format, rows_per_file=rows_per_file)


def _collect_parser() -> argparse.ArgumentParser:
    parser = _parser("collect", collect_command)
    add = parser.add_argument
    add("out", help="HDF5 file in D4RL's layout, or for dqn-replay a folder DIR/GAME/RUN")
    add(
        "--format",
        choices=["hdf5", "npz", "dqn-replay"],
        help="dqn-replay: of Atari games; npz: with --from; default hdf5, or what OUT says",
    )

    add(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="play nothing, but write this source, as in `data:` of a configuration, into OUT",
    )
    add("--env", help="Gymnasium id; for dqn-replay the game's name will do")
    add("--layout", choices=["d4rl"], help="observations, starts and ends of D4RL's task")

    add(
        "--policy",
        default="random",
        help="random, sb3:FILE.zip, sb3:ALGO:FILE.zip, d4rl:FILE.hdf5, ppo:STEPS, sac:STEPS, "
        "replay:ppo:STEPS or replay:sac:STEPS",
    )
    add(
        "--mix",
        nargs="+",
        metavar="POLICY:SHARE",
        help="several policies, e.g. random:0.5 ppo:9999:0.5",
    )
    add("--shuffle", action="store_true", help="episodes of a mixture in random order")
    add("--stochastic", action="store_true", help="draw from the policy's distribution of actions")

    add("--epsilon", type=float, default=0.0, help="probability of a uniformly random action")
    add("--steps", type=int, default=50_000, help="transitions")
    add("--envs", type=int, default=8, help="environments that are stepped together")
    add("--rows-per-file", type=int, help="of dqn-replay; default a million")

    add("--seed", type=int, default=0, help="of environments, exploration and training")
    add("--overwrite", action="store_true", help="replace what exists")
    return parser


def generate_command(argv: Sequence[str]) -> None:
    """`rlop generate "gridworld?steps=20000" OUT.hdf5`: write embedded data, report coverage."""
    parser = _parser("generate", generate_command)
    parser.add_argument(
        "source", help="gridworld or chain with options, as in `data:` of a configuration"
    )
    parser.add_argument("out", help="HDF5 file in D4RL's layout")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    args = parser.parse_args(argv)

    from rlop.data.formats.embedded import write_embedded

    seen = write_embedded(args.source, args.out, args.overwrite)
    print(
        f"{args.out}: {seen['counts'].sum():,} transitions in {seen['episodes']:,} episodes, "
        f"mean return {seen['mean_return']:.3g}; {seen['pairs']:.1%} of state-action pairs and "
        f"{seen['states']:.1%} of states seen"
    )


def info_command(argv: Sequence[str]) -> None:
    """`rlop info [DATASET | CHECKPOINT]`: sizes, spaces, returns; without a name, every source."""
    parser = _parser("info", info_command)
    add = parser.add_argument
    add(
        "dataset",
        nargs="?",
        help="file or name, as in `data:` of a configuration; or a checkpoint, or its folder",
    )
    add("--download", action="store_true", help="fetch a data set of D4RL that is not on disk")
    args = parser.parse_args(argv)

    from rlop.data.sources import listing
    from rlop.training.about import described

    print(listing() if args.dataset is None else described(args.dataset, args.download))


def probe_command(argv: Sequence[str]) -> None:
    """`rlop probe CHECKPOINT --data DATASET`: measure the representation of every run."""
    parser = _parser("probe", probe_command)
    add = parser.add_argument
    add("checkpoint", help="checkpoint.pt in a log folder")
    add("--data", required=True, help="file or name, as in `data:` of a configuration")
    add("--size", type=int, default=0, help="transitions measured; default max(2048, 4 D)")
    _add_allow(parser)
    args = parser.parse_args(argv)

    from rlop.data import load_dataset
    from rlop.training.checkpoint import load_agent
    from rlop.training.probing import probe_agent

    agent, content = load_agent(args.checkpoint, allow=args.allow)
    measured = probe_agent(agent, load_dataset(args.data), args.size)

    print(f"{content['agent']} at step {content['step']}")
    width = max(len(key) for key in measured)
    for run, label in enumerate(agent.runs.labels):
        print(f"\n{label}")
        for key, values in measured.items():
            print(f"  {key:{width}}  {values[run]:.5g}")


def doctor_command(argv: Sequence[str]) -> None:
    """`rlop doctor CHECKPOINT [--data DATASET]`: name what is wrong, with evidence and a remedy."""
    from rlop.doctor.command import add_options, doctor

    parser = _parser("doctor", doctor_command)
    add_options(parser)
    _add_allow(parser)
    doctor(parser.parse_args(argv))


def report_command(argv: Sequence[str]) -> None:
    """`rlop report RUNS [--html FILE]`: groups of runs with intervals, as table or page."""
    from rlop.report.command import add_options, print_report

    parser = _parser("report", report_command)
    add_options(parser)
    _add_allow(parser)
    args = parser.parse_args(argv)
    if args.select:
        from rlop.ope.command import print_selection

        return print_selection(args)
    print_report(args)


def ls_command(argv: Sequence[str]) -> None:
    """`rlop ls RUNS`: state, steps and score of every training in folders."""
    parser = _parser("ls", ls_command)
    parser.add_argument("runs", nargs="+", help="log folders, or folders of them")
    args = parser.parse_args(argv)

    from rlop.report.listing import listing

    print(listing(args.runs))


def sweep_command(argv: Sequence[str]) -> None:
    """`rlop sweep FILE.yaml [--logdir DIR]`: many configurations; started again, it goes on."""
    from rlop.sweep.command import add_options, sweep

    parser = _parser("sweep", sweep_command, allow_abbrev=False)
    add_options(parser)
    sweep(*parser.parse_known_args(argv))


def export_command(argv: Sequence[str]) -> None:
    """`rlop export RUN [--out FILE]`: write a policy as a file that other programs run."""
    from rlop.deploy.command import add_options, export

    parser = _parser("export", export_command)
    add_options(parser)
    _add_allow(parser)
    export(parser.parse_args(argv))


def _parser(name: str, command: Command, allow_abbrev: bool = True) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"rlop {name}", description=command.__doc__, allow_abbrev=allow_abbrev
    )


def _add_allow(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that read a checkpoint, which may be a stranger's."""
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules that the checkpoint's parts may be imported from",
    )


COMMANDS: dict[str, Command] = {
    "demo": demo_command,
    "train": train_command,
    "collect": collect_command,
    "generate": generate_command,
    "info": info_command,
    "probe": probe_command,
    "doctor": doctor_command,
    "report": report_command,
    "ls": ls_command,
    "sweep": sweep_command,
    "export": export_command,
}


def usage() -> str:
    """Return the help page: one line for each command."""
    lines = [f"  {(command.__doc__ or '').splitlines()[0]}" for command in COMMANDS.values()]
    return "usage: rlop COMMAND ... [--quiet | --verbose]\n\n" + "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not arguments:
        print(usage(), file=sys.stderr)
        return EXIT_BAD_INPUT

    name, *rest = arguments
    if name not in COMMANDS:
        hint = closest(name, COMMANDS) or f"; expected one of {', '.join(COMMANDS)}"
        print(f"rlop: unknown command {name!r}{hint}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return guarded(COMMANDS[name], rest)


if __name__ == "__main__":
    sys.exit(main())
