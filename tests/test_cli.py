"""The command line, end to end: exit codes, messages, files on disk afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlop.cli import COMMANDS, main
from rlop.config.files import read_yaml, to_dict
from rlop.config.schema import build
from rlop.data import load_dataset
from rlop.logs.logger import read_metrics
from rlop.training.checkpoint import agent_class, load
from rlop.training.run import Experiment, from_args

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(set(ROOT.glob("configs/*/*.yaml")) - set(ROOT.glob("configs/sweeps/*")))
TINY = """
data: "gridworld?size=4&steps=300"
steps: 30
log_every: 10
probe_every: 10
eval_every: 15
agent:
  name: DiscreteCQL
  hidden: [16, 16]
  batch_size: 16
  regularizers: {dr3: 0.01}
  projections: {max_norm: 10}
seeds: 2
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def run(*argv):
    return main([str(item) for item in argv])


def python(*argv):
    """Run a fresh interpreter that sees the checkout; return what it did."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, argv)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def the_only_line(text):
    """Return the line of the error, which ends what is printed."""
    *messages, line = text.strip().splitlines()
    assert line.startswith("rlop: ")
    assert all(" runs of " in message for message in messages)
    return line


# --- the commands ---


def test_train_report_probe_and_info_go_together(config, tmp_path, capsys):
    logdir = tmp_path / "logs"
    assert run("train", config, "--agent.regularizers.dr3", "0.0,0.1", "--logdir", logdir) == 0
    printed = capsys.readouterr()
    assert "dr3=0.1" in printed.out
    assert f"tensorboard --logdir {logdir}" in printed.out
    assert "4 runs of DiscreteCQL" in printed.err
    assert "peak memory" in printed.err

    history = read_metrics(logdir)
    assert history.get("eval/return")[1].shape == (3, 4)
    losses = history.get("loss/td")[1]
    assert losses[-1] != pytest.approx(losses[0])

    assert run("report", logdir, "--png", tmp_path / "curves.png") == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert run("probe", logdir / "checkpoint.pt", "--data", "gridworld?size=4&steps=300") == 0
    assert "rank/srank" in capsys.readouterr().out
    assert run("info", "gridworld?size=4&steps=300") == 0
    assert "300 transitions" in capsys.readouterr().out


def test_generate_writes_embedded_data_and_reports_coverage(tmp_path, capsys):
    out = tmp_path / "grid.hdf5"
    source = "gridworld?size=4&steps=300&epsilon=1"
    assert run("generate", source, out) == 0
    assert "of state-action pairs" in capsys.readouterr().out

    # The spec holds the same environment, so that exact evaluation works from the file.
    written, rolled = load_dataset(out), load_dataset(source)
    np.testing.assert_array_equal(written.next_obs, rolled.next_obs)
    assert written.spec == rolled.spec

    assert run("generate", "gridworld?size=4", out) == 2
    assert run("generate", "gridwrld", tmp_path / "no.hdf5") == 2
    assert not (tmp_path / "no.hdf5").exists()


@pytest.mark.parametrize("flag", [["--resume"], ["--resume", "true"]])
def test_resume_continues(config, tmp_path, flag):
    logdir = tmp_path / "logs"
    assert run("train", config, "--logdir", logdir) == 0
    assert run("train", config, *flag, "--logdir", logdir, "--steps", 50) == 0
    assert load(logdir / "checkpoint.pt")["step"] == 50


def test_a_projection_takes_options_like_a_regularizer(config, tmp_path):
    line = "--agent.projections.max_norm.center zero --agent.regularizers.dr3.form abs"
    assert run("train", config, *line.split(), "--logdir", tmp_path / "logs") == 0

    stored = load(tmp_path / "logs" / "checkpoint.pt")["config"]
    assert stored["projections"] == {"max_norm": {"": 10, "center": "zero"}}
    assert stored["regularizers"] == {"dr3": {"": 0.01, "form": "abs"}}


@pytest.mark.parametrize(("flag", "said"), [("--quiet", False), ("--verbose", True)])
def test_quiet_leaves_out_messages_but_not_the_table(config, tmp_path, capsys, flag, said):
    assert run("train", config, flag, "--logdir", tmp_path / "logs") == 0
    printed = capsys.readouterr()
    assert bool(printed.err) == said
    assert "loss" in printed.out or "rank/srank" in printed.out


def test_collect_then_train_in_one_configuration(tmp_path, capsys):
    config, file = tmp_path / "cartpole.yaml", tmp_path / "data" / "random.hdf5"
    config.write_text(
        f"data: {file}\ncollect: {{env: CartPole-v1, policy: random, steps: 400}}\nsteps: 20\n"
        "eval_episodes: 2\nagent: {hidden: [8], batch_size: 8}\n"
    )
    assert run("train", config, "--logdir", tmp_path / "logs") == 0
    assert "collecting 400 steps" in capsys.readouterr().err
    assert read_metrics(tmp_path / "logs").get("eval/return")[1][-1] >= 8

    assert run("train", config, "--logdir", tmp_path / "again") == 0
    assert "collecting" not in capsys.readouterr().err


def test_a_configuration_may_collect_a_mixture(tmp_path):
    config, file = tmp_path / "mixture.yaml", tmp_path / "mixed.hdf5"
    config.write_text(
        f"data: {file}\n"
        "collect: {env: CartPole-v1, mix: {random: 1.0}, shuffle: true, steps: 300}\n"
        "steps: 5\neval_episodes: 0\nagent: {hidden: [8], batch_size: 8}\n"
    )
    assert run("train", config, "--logdir", tmp_path / "logs") == 0
    assert len(load_dataset(file)) == 300


# --- a dry run ---


def test_a_dry_run_prints_the_runs_and_writes_nothing(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run("train", config, "--dry-run", "--agent.lr", "1e-3,1e-4") == 0

    printed = capsys.readouterr().out
    assert "4 runs" in printed
    assert "lr=0.001,seed=1: lr = 0.001, seed = 1" in printed
    assert "MiB for parameters" in printed
    assert "for 30 steps" in printed
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_collects_no_data(config, tmp_path, capsys):
    config.write_text(f"data: {tmp_path}/no.hdf5\ncollect: {{env: CartPole-v1}}\n")
    assert run("train", config, "--dry-run") == 0
    assert "does not exist yet" in capsys.readouterr().out
    assert not (tmp_path / "no.hdf5").exists()


# --- mistakes ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--stpes 3", "did you mean 'steps'"),
        ("--steps many", "steps = 'many': expected a whole number >= 1"),
        ("--steps", "--steps: expected a key and a value"),
        ("--lr 3e-4", "unknown key 'lr', did you mean 'agent.lr'?"),
        ("--agent.seeds 3", "unknown key 'agent.seeds', did you mean 'seeds'?"),
        ("--agent.device cpu", "unknown key 'agent.device', did you mean 'device'?"),
        ("--agent.spec 1", "unknown key 'agent.spec'"),
        ("--agent.name {a:1}", "agent.name = {'a:1': None}: expected the name of an agent"),
        ("--agent.name DQNN", "did you mean 'DQN'"),
        ("--agent.name no_such_module:X", "cannot be imported"),
        ("--agent 3", "--agent: agent is a section"),
        ("--agent.gamma 1.5", "agent.gamma = 1.5: expected a number in [0, 1) or a list of them"),
        ("--agent.gamma", "agent.gamma = true: expected a number in [0, 1)"),
        ("--agent.alhpa 1", "unknown key 'agent.alhpa', did you mean 'alpha'?"),
        ("--agent.lr.x 1", "agent.lr"),
        ("--agent.optimizer.sgd.momentum 2", "agent.optimizer.sgd.momentum = 2"),
        ("--agent.batch_size 1000", "batch_size = 1000"),
        ("--agent.projections.max_norm -1", "radius"),
        ("--agent.regularizers.dr33 1", "dr33"),
        ("--data nowhere.hdf5", "nowhere.hdf5"),
        ("--data gridwrld", "gridwrld"),
        ("--data gridworld?sizes=3", "sizes"),
        ("--env CartPole-v1", "CartPole-v1"),
        ("--device tpu9", "tpu9"),
        ("--seeds 0", "seeds"),
        ("--window 3", "window = 3, reload_every = 0: expected both, or neither"),
        ("--eval_epsilon 2", "eval_epsilon = 2: expected a number in [0, 1] or null"),
    ],
)
def test_bad_input_is_one_line_exit_code_two_and_nothing_written(
    config, tmp_path, capsys, line, message
):
    logdir = tmp_path / "logs"
    assert run("train", config, *line.split(), "--logdir", logdir) == 2
    assert message in the_only_line(capsys.readouterr().err)
    assert not logdir.exists()


def test_a_mistake_names_the_file_it_stands_in(config, capsys):
    config.write_text("agent: {gamma: 2}")
    assert run("train", config) == 2
    assert the_only_line(capsys.readouterr().err).startswith(f"rlop: {config}: agent.gamma = 2")


def test_a_configuration_that_is_missing_or_broken_is_one_line(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("a: [1,")
    for argv in ([tmp_path / "none.yaml"], [tmp_path / "bad.yaml"], []):
        assert run("train", *argv) == 2
        the_only_line(capsys.readouterr().err)


def test_an_unknown_command_is_told_the_nearest(capsys):
    assert run("trian") == 2
    expected = "rlop: unknown command 'trian', did you mean 'train'?"
    assert the_only_line(capsys.readouterr().err) == expected


# --- help ---


TAKING_HELP = [*COMMANDS]


def test_help_of_the_whole_lists_every_command(capsys):
    assert run("--help") == 0
    printed = capsys.readouterr().out
    for name in TAKING_HELP:
        assert f"rlop {name}" in printed


@pytest.mark.parametrize("name", TAKING_HELP)
def test_every_command_has_help(name, capsys):
    try:
        code = run(name, "--help")
    except SystemExit as done:  # argparse
        code = done.code
    assert code == 0
    assert capsys.readouterr().out.startswith(f"usage: rlop {name} ")


def test_help_of_the_demo_is_its_own_and_lists_its_options(capsys):
    assert run("demo", "--help") == 0
    printed = capsys.readouterr().out
    assert "rlop train" not in printed
    assert "--resume RUN" not in printed
    assert "--agent.regularizers.dr3" in printed


def test_the_command_is_installed():
    (script,) = [*Path(sys.executable).parent.glob("rlop")] or [None]
    if script is None:
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "rlop collect" in done.stdout


def test_help_and_a_mistyped_command_load_neither_torch_nor_numpy_nor_posix_modules():
    code = (
        "import sys\n"
        "sys.modules.update(resource=None, fcntl=None, termios=None, pwd=None)\n"
        "from rlop.cli import main\n"
        "assert main(['--help']) == main(['train', '--help']) == 0\n"
        "assert main(['trian']) == 2\n"
        "assert not {'torch', 'numpy', 'gymnasium'} & set(sys.modules), 'too much is imported'\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "--probe_every" in done.stdout


# --- shipped files ---


def config_name(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("config", CONFIGS, ids=config_name)
def test_every_shipped_configuration_is_valid_and_restates_no_default(config):
    values = read_yaml(config)
    experiment, _ = from_args([str(config)])
    assert experiment.steps > 0

    defaults = to_dict(Experiment())
    for key, value in values.items():
        assert value != defaults[key], f"{key} restates its default"

    options = dict(values.get("agent", {}))
    cls = agent_class(options.pop("name", "DQN"))
    build(cls.Config, options)
    standard = to_dict(cls.Config())
    for key, value in options.items():
        assert value != standard[key], f"agent.{key} restates its default"
