"""`rlop train --resume RUN`: the folder is enough, and exit codes say what ended a training."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlop.cli import main
from rlop.config.files import read_yaml
from rlop.training import loop
from rlop.training.checkpoint import load
from scripts.same_training import differences

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
data: "gridworld?size=4&steps=300"
steps: 30
log_every: 7
probe_every: 10
eval_every: 15
agent: {name: DiscreteCQL, hidden: [8], batch_size: 8, regularizers: {dr3: [0.0, 0.1]}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(CONFIG)
    return tmp_path


def run(line):
    return main(shlex.split(line))


@pytest.fixture
def signal_at_step_20(monkeypatch):
    """Let the probe at step 20 send a signal, once."""

    def prepare(number):
        measure, calls = loop.measure_agent, []

        def measure_and_send(agent, batch, probes):
            calls.append(agent)
            if len(calls) == 3:
                os.kill(os.getpid(), number)
            return measure(agent, batch, probes)

        monkeypatch.setattr(loop, "measure_agent", measure_and_send)

    return prepare


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_the_message_of_an_interruption_is_the_command_that_continues(
    folder, capsys, signal_at_step_20, number, code
):
    assert run("train a.yaml --logdir 'my run'") == 0
    signal_at_step_20(number)
    assert run("train a.yaml --logdir 'the other'") == code
    assert load("the other/checkpoint.pt")["step"] == 20

    command = capsys.readouterr().err.strip().splitlines()[-1].partition("continues with: ")[2]
    assert command == "rlop train --resume 'the other'"
    assert run(command.removeprefix("rlop ")) == 0
    assert differences(Path("my run"), Path("the other")) == []


def test_a_resume_reads_the_configuration_of_the_folder_and_keeps_what_changes(folder):
    assert run("train a.yaml --logdir run --agent.lr 0.01 --seeds 2") == 0
    (folder / "a.yaml").unlink()
    assert run("train --resume run --steps 40") == 0
    stored = read_yaml("run/config.yaml")
    assert stored["steps"] == 40
    assert stored["agent"]["lr"] == 0.01
    assert not {"resume", "logdir", "fork"} & set(stored)

    assert run("train --resume run") == 0
    assert load("run/checkpoint.pt")["step"] == 40


def test_what_differs_from_the_folder_is_refused(folder, capsys):
    assert run("train a.yaml --logdir run") == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert run("train --resume run --steps 40 --agent.gamma 0.5 --eval_episodes 0") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "agent.gamma = 0.99 -> 0.5" in line
    assert "evaluation.env = the exact MDP -> None" in line
    assert {path: path.read_bytes() for path in before} == before


def test_another_number_of_threads_is_said(folder, capsys):
    threads = torch.get_num_threads()
    try:
        assert run("train a.yaml --logdir run --threads 1") == 0
        assert run("train --resume run --steps 32 --threads 2") == 0
    finally:
        torch.set_num_threads(threads)
    assert "numbers may differ in their last bits: threads 1 -> 2" in capsys.readouterr().err


def test_a_fork_leaves_its_parent_alone(folder, capsys):
    assert run("train a.yaml --logdir run") == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert run("train --resume run --fork new --steps 40 --agent.gamma 0.5") == 0
    assert "agent.gamma = 0.99 -> 0.5" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert run("train --resume new --steps 50") == 0
    assert load("new/checkpoint.pt")["training"]["parent"]["step"] == 30

    assert run("train --resume run --fork new --steps 60") == 2
    assert "already holds a record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--resume none", "none/config.yaml: no such file"),
        ("a.yaml --resume none", "none/checkpoint.pt: no such checkpoint"),
        ("a.yaml --resume", "resume = True: expected a logdir"),
        ("a.yaml --fork new", "fork = new: expected resume with it"),
        ("a.yaml --resume run --logdir new", "expected one folder; fork: NEW"),
        ("--resume", "no configuration file"),
    ],
)
def test_a_resume_of_nothing_is_one_line(folder, capsys, line, message):
    assert run(f"train {line}") == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert [path.name for path in folder.iterdir()] == ["a.yaml"]


def test_the_same_line_with_resume_starts_and_continues(folder):
    for steps in (30, 40):
        assert run(f"train a.yaml --logdir run --resume --steps {steps}") == 0
        assert load("run/checkpoint.pt")["step"] == steps


def test_trainings_without_a_folder_get_one_each(folder, monkeypatch):
    monkeypatch.setattr("rlop.training.folder.time.strftime", lambda form: "now")
    for _ in range(2):
        assert run("train a.yaml --steps 2") == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["a-now", "a-now-2"]


HIDDEN = """
import sys
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
from rlop.cli import main
code = main(sys.argv[1:])
print(*sorted(sys.modules))
sys.exit(code)
"""
# Optional packages, and PyTorch's compiler, which takes longer to import than this training.
HEAVY = {
    "ale_py",
    "d4rl",
    "matplotlib",
    "minari",
    "minatar",
    "pandas",
    "stable_baselines3",
    "tensorflow",
    "torch._dynamo",
    "torch.utils.tensorboard",
}


def test_a_training_needs_no_optional_package_and_no_module_that_only_posix_has(folder):
    command = [sys.executable, "-c", HIDDEN, "train", "a.yaml", "--logdir", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load("run/checkpoint.pt")["step"] == 30
    imported = set(done.stdout.splitlines()[-1].split())
    assert "rlop.agents" in imported
    assert not HEAVY & imported
