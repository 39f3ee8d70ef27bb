"""End trainings at random moments, resume them, and compare each with an uninterrupted one.

    python scripts/chaos.py                # a minute: each kind but `compiled`
    python scripts/chaos.py --kills 200 --double 100 --terms 50 --kinds all
    python scripts/chaos.py --kinds rmd compiled --folder /dev/shm/chaos

The kinds of training take turns. What was ended must leave a checkpoint that is whole; a resume,
which may be killed in turn, must reach the parameters, random streams, record and curves of the
uninterrupted training, and leave no file that it has not. Exit code 1 if one does not.

For systems that fork: every training runs in a copy of this process, which has imported what they
need.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rlop.command import guarded, leave_script_folder

leave_script_folder(__file__)  # puts the checkout on the path
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no processes of its own before the copies

import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

from rlop.cli import main  # noqa: E402
from rlop.collect.dqn_replay import write_dqn_replay  # noqa: E402
from rlop.logs.history import EVENTS, read_metrics  # noqa: E402
from rlop.training.checkpoint import load  # noqa: E402
from rlop.types import InputError  # noqa: E402
from scripts.same_training import differences  # noqa: E402

# What trainings import late; imported before they are copies.
LATE = ("rlop.agents", "rlop.report.tables", "rlop.training.run", "torch._inductor.compile_fx")

# Every interval is another one, so that all orders of tasks occur.
SCHEDULE = {
    "steps": 120,
    "log_every": 7,
    "probe_every": 11,
    "probe_size": 64,
    "eval_every": 13,
    "checkpoint_every": 5,
    "compile": False,
    "seeds": 2,
}
GRID = {"data": "gridworld?size=4&steps=300"}
SMALL = {"hidden": [16, 16], "batch_size": 16, "target_period": 9}
KINDS: dict[str, dict[str, object]] = {
    "dqn": {**GRID, "agent": {"name": "DQN", **SMALL}},
    "discrete_cql": {
        **GRID,
        "agent": {
            "name": "DiscreteCQL",
            **SMALL,
            "regularizers": {"dr3": [0.0, 0.1]},
            "projections": {"max_norm": 2.0},
        },
    },
    "continuous_cql": {
        "data": "moves.npz",
        "data_options": {"action_low": -2, "action_high": 2, "action_units": "unit"},
        "env": "Pendulum-v1",
        "eval_episodes": 1,
        "env_kwargs": {"max_episode_steps": 20},
        "agent": {"name": "CQL", "hidden": [16, 16], "batch_size": 16},
    },
    "resets": {**GRID, "agent": {"name": "DQN", **SMALL, "resets": {"every": 10, "tau": 0.5}}},
    "rmd": {**GRID, "agent": {"name": "DQN", **SMALL, "optimizer": {"rmd": {"lam": 1.0}}}},
    "target_noise": {**GRID, "agent": {"name": "DQN", **SMALL, "target_noise": {"scale": 0.5}}},
    "window": {
        "data": "dqn-replay:Pong/1",
        "data_options": {"root": "."},
        "window": 2,
        "reload_every": 17,
        "eval_episodes": 0,
        "agent": {"name": "DQN", "hidden": [8], "batch_size": 8, "network": "mlp"},
    },
    "compiled": {**GRID, "compile": True, "agent": {"name": "DQN", **SMALL}},
}
QUICK = [kind for kind in KINDS if kind != "compiled"]  # which takes ten seconds to start
COUNTS = ("torn", "failed", "unequal", "leftover")


# ---- trainings in copies of this process


def start(folder: Path, arguments: list[str]) -> int:
    """Start `rlop` with arguments in a folder; return the process."""
    pid = os.fork()
    if pid:
        return pid

    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that ended it."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def begin(kind: str, logdir: Path) -> list[str]:
    """Return the arguments that start a training."""
    return ["train", f"{kind}.yaml", "--logdir", logdir.name]


def again(kind: str, logdir: Path) -> list[str]:
    """Return the arguments that resume it: the folder alone, once it has a configuration."""
    if (logdir / "config.yaml").exists():
        return ["train", "--resume", logdir.name]
    return [*begin(kind, logdir), "--resume"]


# ---- ways to end one


def kill(pid: int, seconds: float, chance: random.Random) -> None:
    """SIGKILL at a random moment."""
    time.sleep(chance.uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)


def interrupt_twice(pid: int, seconds: float, chance: random.Random) -> None:
    """Ctrl-C, and another one within the update, the evaluation or the save that follows."""
    time.sleep(chance.uniform(0, seconds))
    os.kill(pid, signal.SIGINT)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(pid, signal.SIGINT)


def terminate(pid: int, seconds: float, chance: random.Random) -> None:
    """SIGTERM at a random moment."""
    time.sleep(chance.uniform(0, seconds))
    os.kill(pid, signal.SIGTERM)


# Exit codes: ended by the signal's handler, before there was one, or after the last step.
WAYS: dict[str, tuple[Callable[[int, float, random.Random], None], tuple[int, ...]]] = {
    "kill": (kill, (-signal.SIGKILL, 0)),
    "double": (interrupt_twice, (130, 0)),
    "term": (terminate, (143, -signal.SIGTERM, 0)),
}


# ---- what is left


def names(logdir: Path) -> set[str]:
    """Return the files of a training; the event files of one run count as one."""
    found = set()
    for path in logdir.rglob("*"):
        name = EVENTS if path.name.startswith(EVENTS) else path.name
        found.add(str(path.relative_to(logdir).with_name(name)))
    return found


def is_torn(logdir: Path) -> bool:
    """Return whether a checkpoint, or the record, cannot be read."""
    try:
        for path in logdir.glob("checkpoint*.pt"):
            load(path)
        if (logdir / "metrics.jsonl").exists() and (logdir / "checkpoint.pt").exists():
            read_metrics(logdir)
    except InputError as error:
        print(f"  torn: {error}", flush=True)
        return True
    return False


# ---- trials


def trial(
    kind: str, way: str, whole: Path, logdir: Path, seconds: float, chance: random.Random
) -> set[str]:
    """End a training in one way, resume it to its end; return what went wrong, of `COUNTS`."""
    attack, codes = WAYS[way]
    wrong = set()
    pid = start(logdir.parent, begin(kind, logdir))
    attack(pid, seconds, chance)
    code = end_of(pid)
    if code not in codes:
        print(f"  {kind}, {way}: exit code {code}, expected one of {codes}", flush=True)
        wrong.add("failed")
    if is_torn(logdir):
        wrong.add("torn")

    # A resume is killed as well, one time in three.
    if chance.random() < 1 / 3:
        pid = start(logdir.parent, again(kind, logdir))
        kill(pid, seconds / 2, chance)
        end_of(pid)
        if is_torn(logdir):
            wrong.add("torn")
    code = end_of(start(logdir.parent, again(kind, logdir)))
    if code != 0:
        print(f"  {kind}, {way}: exit code {code} of the resume", flush=True)
        return wrong | {"failed"}

    found = differences(whole, logdir)
    left = names(logdir) - names(whole)
    if found:
        print(f"  {kind}, {way}: {', '.join(found)} differ", flush=True)
        wrong.add("unequal")
    if left:
        print(f"  {kind}, {way}: {', '.join(sorted(left))} left over", flush=True)
        wrong.add("leftover")
    return wrong


def write_inputs(folder: Path) -> None:
    """Write the configurations, and the data that are not embedded."""
    for kind, options in KINDS.items():
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump({**SCHEDULE, **options}))

    rng = np.random.default_rng(0)
    n = 200
    ends = np.arange(n) % 10 == 9
    np.savez(
        folder / "moves.npz",
        obs=rng.normal(size=(n, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (n, 1)).astype(np.float32),
        reward=rng.normal(size=n).astype(np.float32),
        next_obs=rng.normal(size=(n, 3)).astype(np.float32),
        terminated=np.zeros(n, bool),
        truncated=ends,
    )
    write_dqn_replay(
        folder / "Pong" / "1" / "replay_logs",
        rng.integers(0, 256, (800, 4, 5), dtype=np.uint8),
        rng.integers(0, 4, 800),
        rng.normal(size=800).astype(np.float32),
        rng.random(800) < 0.03,
        capacity=200,
    )


def chaos(argv: list[str]) -> None:
    """End trainings at random moments, resume and compare them; print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", nargs="+", default=QUICK, choices=["all", *KINDS], help=f"of {', '.join(KINDS)}")
    add("--kills", type=int, default=len(QUICK), help="SIGKILLs in all")
    add("--double", type=int, default=3, help="double Ctrl-C")
    add("--terms", type=int, default=2, help="SIGTERMs")
    add("--seed", type=int, default=0, help="of the moments")
    add("--folder", type=Path, help="keep the trainings there")
    args = parser.parse_args(argv)

    torch.set_num_threads(1)
    for name in LATE:
        import_module(name)
    folder = args.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    write_inputs(folder)

    wholes, seconds = {}, {}
    kinds = list(KINDS) if "all" in args.kinds else args.kinds
    for kind in kinds:
        wholes[kind] = folder / f"{kind}-whole"
        for _ in range(2 if kind == "compiled" else 1):  # the second one finds its code compiled
            begun = time.perf_counter()
            arguments = ["train", f"{kind}.yaml", "--logdir", wholes[kind].name]
            if wholes[kind].exists():
                arguments[-1] += "-again"
            if end_of(start(folder, arguments)) != 0:
                raise InputError(f"{folder / 'output.txt'}: {kind} failed without being ended")
            seconds[kind] = time.perf_counter() - begun
        print(f"{kind}: {seconds[kind]:.1f} s uninterrupted", flush=True)

    wanted = {"kill": args.kills, "double": args.double, "term": args.terms}
    chance = random.Random(args.seed)
    counts = {way: Counter[str]() for way in wanted}
    for number, way in enumerate(shuffled(wanted, chance), start=1):
        kind = kinds[number % len(kinds)]
        logdir = folder / f"{kind}-{way}-{number}"
        counts[way].update(
            ["trainings", *trial(kind, way, wholes[kind], logdir, seconds[kind], chance)]
        )
        if number % 10 == 0 or number == sum(wanted.values()):
            print(f"\n{number} trainings", *map(line, counts.items()), sep="\n", flush=True)
    if any(counts[way][name] for way in wanted for name in COUNTS):
        raise InputError(f"{folder}: holds the trainings that went wrong")


def shuffled(wanted: dict[str, int], chance: random.Random) -> list[str]:
    """Return the ways in a random order, each as often as it is wanted."""
    ways = [way for way, count in wanted.items() for _ in range(count)]
    chance.shuffle(ways)
    return ways


def line(item: tuple[str, Counter[str]]) -> str:
    """Return the counts of one way."""
    way, counts = item
    shown = ", ".join(f"{name} {counts[name]}" for name in COUNTS)
    return f"{way}: {counts['trainings']} trainings: {shown}"


if __name__ == "__main__":
    sys.exit(guarded(chaos))
