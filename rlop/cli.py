"""The command `rlop`: train, collect, generate, info, probe, report, sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rlop.logs.messages import messages_on_stderr
from rlop.types import InputError

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130
SCORES = [
    "eval/return",
    "eval/normalized_score",
    "eval/human_normalized",
    "eval/dqn_normalized",
    "eval/q_error",
]
SHOWN = [*SCORES, "q/data", "rank/srank", "feature/dot", "run/active"]


def guarded(command: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2, Ctrl-C exit code 130."""
    try:
        with messages_on_stderr():
            command(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        print(f"rlop: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def run_script(script: str, command: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a command as the main program of a file in `scripts/`, and exit with its code.

    Args:
        script: path of the file, its `__file__`.
        command: takes the arguments that follow the script's name.
    """
    leave_script_folder(script)
    sys.exit(guarded(command))


def train_script(script: str, config: str) -> NoReturn:
    """Run `rlop train` as the main program of a file in `scripts/`.

    Args:
        script: path of the file, its `__file__`.
        config: the configuration to train when none is named.
    """
    run_script(script, lambda argv: train_command(argv, default=config))


def leave_script_folder(script: str) -> None:
    """Put the checkout in the place of its folder `scripts/` on the import path.

    Python puts the folder of the running script first. From there `scripts/mujoco.py` and
    `scripts/minatar.py` would hide the packages of these names.
    """
    folder = Path(script).resolve().parent
    if sys.path and Path(sys.path[0]).resolve() == folder:
        sys.path[0] = str(folder.parent)


def train_command(argv: Sequence[str], default: str | None = None) -> None:
    """`rlop train CONFIG.yaml [--key value ...]`: train, print the table, say where the logs are."""
    from rlop.report.tables import table
    from rlop.training.run import from_args, run

    if "--help" in argv or "-h" in argv:
        return print_keys()
    _, history, logdir = run(*from_args(argv, default))
    print(table(history, [name for name in SHOWN if name in history.metrics]))
    print(f"\ncurves: tensorboard --logdir {logdir}")


def print_keys() -> None:
    """Every key of a configuration and its default."""
    from dataclasses import MISSING, fields

    from rlop.training.run import Experiment

    print(
        "rlop train CONFIG.yaml [--key value ...]\n\nkeys (dotted for nested ones, e.g. --agent.lr 1e-3):"
    )
    for item in fields(Experiment):
        value = item.default_factory() if item.default_factory is not MISSING else item.default
        print(f"  {item.name:18} {item.type}, default {value!r}")


def collect_command(argv: Sequence[str]) -> None:
    """`rlop collect --env ID --policy POLICY OUT`: roll a policy out and write the transitions."""
    import torch

    from rlop.collect.atari import MILLION, collect_dqn_replay
    from rlop.collect.collector import collect

    parser = argparse.ArgumentParser(prog="rlop collect", description=collect_command.__doc__)
    parser.add_argument(
        "out", help="HDF5 file in D4RL's layout, or for dqn-replay a folder DIR/GAME/RUN"
    )
    parser.add_argument(
        "--format",
        default="hdf5",
        choices=["hdf5", "dqn-replay"],
        help="dqn-replay: of Atari games",
    )
    parser.add_argument(
        "--env", required=True, help="Gymnasium id; for dqn-replay the game's name will do"
    )
    parser.add_argument(
        "--layout", choices=["d4rl"], help="observations, starts and ends of D4RL's task"
    )
    policies = "random, sb3:FILE.zip, sb3:ALGO:FILE.zip, ppo:STEPS, sac:STEPS, replay:ppo:STEPS or replay:sac:STEPS"
    parser.add_argument("--policy", default="random", help=policies)
    parser.add_argument(
        "--mix",
        nargs="+",
        metavar="POLICY:SHARE",
        help="several policies, e.g. random:0.5 ppo:9999:0.5",
    )
    parser.add_argument(
        "--shuffle", action="store_true", help="episodes of a mixture in random order"
    )
    parser.add_argument(
        "--stochastic", action="store_true", help="draw from the policy's distribution of actions"
    )
    parser.add_argument(
        "--epsilon", type=float, default=0.0, help="probability of a uniformly random action"
    )
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--envs", type=int, default=8, help="environments that are played together")
    parser.add_argument("--rows-per-file", type=int, default=MILLION, help="of dqn-replay")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # policies are small, and threads only wait for each other
    options = {key: getattr(args, key) for key in ("epsilon", "stochastic", "seed", "overwrite")}
    if args.format == "dqn-replay":
        if args.mix or args.layout or args.shuffle:
            raise InputError("--format dqn-replay: expected no --mix, --shuffle or --layout")
        options |= {"n_envs": args.envs, "rows_per_file": args.rows_per_file}
        collect_dqn_replay(args.env, args.policy, args.steps, args.out, **options)
        return
    try:
        mix = {
            name: float(share)
            for name, _, share in (item.rpartition(":") for item in args.mix or [])
        }
    except ValueError as error:
        raise InputError(
            f"--mix {' '.join(args.mix)}: {error}; expected POLICY:SHARE, e.g. random:0.5"
        ) from error
    env_kwargs = {"layout": args.layout} if args.layout else None
    options |= {"shuffle": args.shuffle, "n_envs": args.envs, "env_kwargs": env_kwargs}
    collect(args.env, mix or args.policy, args.steps, args.out, **options)


def generate_command(argv: Sequence[str]) -> None:
    """`rlop generate "gridworld?steps=20000&epsilon=0.3" OUT.hdf5`: write embedded data, report their coverage."""
    from rlop.data.formats.embedded import write_embedded

    parser = argparse.ArgumentParser(prog="rlop generate", description=generate_command.__doc__)
    parser.add_argument(
        "source", help="gridworld or chain with options, as in `data:` of a configuration"
    )
    parser.add_argument("out", help="HDF5 file in D4RL's layout")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    args = parser.parse_args(argv)
    seen = write_embedded(args.source, args.out, args.overwrite)
    print(
        f"{args.out}: {seen['counts'].sum():,} transitions in {seen['episodes']:,} episodes, mean return "
        f"{seen['mean_return']:.3g}; {seen['pairs']:.1%} of state-action pairs and {seen['states']:.1%} of states seen"
    )


def info_command(argv: Sequence[str]) -> None:
    """`rlop info DATASET`: sizes, spaces, returns."""
    from rlop.data import load_dataset
    from rlop.data.info import summary

    parser = argparse.ArgumentParser(prog="rlop info", description=info_command.__doc__)
    parser.add_argument("dataset", help="file or name, as in `data:` of a configuration")
    print(summary(load_dataset(parser.parse_args(argv).dataset)))


def probe_command(argv: Sequence[str]) -> None:
    """`rlop probe CHECKPOINT --data DATASET`: representation measures of every run of a checkpoint."""
    from rlop.data import load_dataset
    from rlop.training.checkpoint import load_agent
    from rlop.training.loop import Loop, TrainOptions

    parser = argparse.ArgumentParser(prog="rlop probe", description=probe_command.__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument(
        "--data", required=True, help="file or name, as in `data:` of a configuration"
    )
    parser.add_argument(
        "--size", type=int, default=0, help="transitions measured; default max(2048, 4 D)"
    )
    args = parser.parse_args(argv)
    agent, content = load_agent(args.checkpoint)
    measured = Loop(
        agent, load_dataset(args.data), TrainOptions(probe_size=args.size), None
    ).probe()
    print(f"{content['agent']} at step {content['step']}")
    width = max(map(len, measured))
    for run, name in enumerate(agent.runs.labels):
        print(f"\n{name}")
        for key, values in measured.items():
            print(f"  {key:{width}}  {values[run]:.5g}")


def report_command(argv: Sequence[str]) -> None:
    """`rlop report RUNS`: mean or interquartile mean and 95 % interval over seeds for every group of runs."""
    from rlop.report.tables import AT, STABILITY, STATISTICS, report

    parser = argparse.ArgumentParser(prog="rlop report", description=report_command.__doc__)
    parser.add_argument("runs", help="a log folder, or a folder of log folders")
    parser.add_argument("--metrics", nargs="+", default=None)
    parser.add_argument(
        "--at",
        default="final",
        choices=[*AT, STABILITY],
        help="default final; stability: all of them",
    )
    parser.add_argument(
        "--statistic",
        default="mean",
        choices=list(STATISTICS),
        help="over the runs of a group: mean with a Student-t interval, or interquartile mean "
        "with a bootstrap interval",
    )
    parser.add_argument("--png", default=None, help="also draw the curves into this file")
    args = parser.parse_args(argv)
    print(report(args.runs, args.metrics, args.at, args.png, args.statistic))


def sweep_command(argv: Sequence[str]) -> None:
    """`rlop sweep CONFIG.yaml --over KEY VALUE VALUE ... --logdir DIR`: every combination, a process each."""
    from rlop.sweep.plan import commands, run_local, submit

    parser = argparse.ArgumentParser(prog="rlop sweep", description=sweep_command.__doc__)
    parser.add_argument("config")
    parser.add_argument(
        "--over", nargs="+", action="append", required=True, metavar=("KEY", "VALUE")
    )
    parser.add_argument(
        "--logdir", required=True, type=Path, help="parent folder; `rlop report DIR` compares"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--cluster", default=None, help="slurm, or local: hand the jobs to submitit instead"
    )
    parser.add_argument(
        "--minutes", type=int, default=24 * 60, help="time limit of a job on a cluster"
    )
    args, rest = parser.parse_known_args(argv)
    jobs = commands(args.config, {key: values for key, *values in args.over}, rest, args.logdir)
    if args.cluster:
        print("submitted", *submit(jobs, args.cluster, args.logdir, args.minutes))
        return
    failed = run_local(jobs, max(1, args.jobs))
    print(
        f"{len(jobs) - len(failed)} of {len(jobs)} trainings finished; compare them: rlop report {args.logdir}"
    )
    if failed:
        raise InputError(f"sweep: {', '.join(failed)} failed; see {args.logdir}/*.log")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train_command,
    "collect": collect_command,
    "generate": generate_command,
    "info": info_command,
    "probe": probe_command,
    "report": report_command,
    "sweep": sweep_command,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] not in COMMANDS:
        lines = [f"  {(command.__doc__ or '').splitlines()[0]}" for command in COMMANDS.values()]
        print("usage: rlop COMMAND ...\n\n" + "\n".join(lines), file=sys.stderr)
        return 0 if argv and argv[0] in ("-h", "--help") else EXIT_BAD_INPUT
    return guarded(COMMANDS[argv[0]], argv[1:])


if __name__ == "__main__":
    sys.exit(main())
