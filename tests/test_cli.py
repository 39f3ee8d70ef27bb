"""The command line and the scripts, end to end: exit codes, messages, what is on disk afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlop.cli import main
from rlop.data import load_dataset
from rlop.logs.logger import read_metrics
from rlop.training.checkpoint import load

ROOT = Path(__file__).resolve().parents[1]
TINY = """
data: "gridworld?size=4&steps=300"
steps: 30
log_every: 10
probe_every: 10
eval_every: 15
agent: {name: DiscreteCQL, hidden: [16, 16], batch_size: 16, regularizers: {dr3: 0.01}}
seeds: 2
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def run(*argv):
    return main([str(item) for item in argv])


def test_train_report_probe_info(config, tmp_path, capsys):
    logdir = tmp_path / "logs"
    assert run("train", config, "--agent.regularizers.dr3", "0.0,0.1", "--logdir", logdir) == 0
    out = capsys.readouterr().out
    assert "dr3=0.1" in out
    assert "peak memory" in out
    assert f"tensorboard --logdir {logdir}" in out
    history = read_metrics(logdir)
    assert history.get("eval/return")[1].shape == (3, 4)
    assert history.get("loss/td")[1][-1] != pytest.approx(history.get("loss/td")[1][0])
    assert run("report", logdir, "--png", tmp_path / "curves.png") == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert run("probe", logdir / "checkpoint.pt", "--data", "gridworld?size=4&steps=300") == 0
    assert "rank/srank" in capsys.readouterr().out
    assert run("info", "gridworld?size=4&steps=300") == 0
    assert "300 transitions" in capsys.readouterr().out


def test_generate_writes_embedded_data_and_reports_coverage(tmp_path, capsys):
    out = tmp_path / "grid.hdf5"
    assert run("generate", "gridworld?size=4&steps=300&epsilon=1", out) == 0
    assert "of state-action pairs" in capsys.readouterr().out
    written, rolled = load_dataset(out), load_dataset("gridworld?size=4&steps=300&epsilon=1")
    np.testing.assert_array_equal(written.next_obs, rolled.next_obs)
    assert (
        written.spec == rolled.spec
    )  # the same environment, so that exact evaluation works from the file
    assert run("generate", "gridworld?size=4", out) == 2
    assert run("generate", "gridwrld", tmp_path / "no.hdf5") == 2
    assert not (tmp_path / "no.hdf5").exists()


def test_resume_continues(config, tmp_path):
    assert run("train", config, "--logdir", tmp_path / "logs") == 0
    assert (
        run("train", config, "--logdir", tmp_path / "logs", "--steps", 50, "--resume", "true") == 0
    )
    assert load(tmp_path / "logs" / "checkpoint.pt")["step"] == 50


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["--stpes", "3"], "did you mean 'steps'"),
        (["--steps", "many"], "steps"),
        (["--agent.gamma", "1.5"], "gamma = 1.5"),
        (["--agent.alhpa", "1"], "did you mean 'alpha'"),
        (["--agent.name", "DQNN"], "did you mean 'DQN'"),
        (["--agent.batch_size", "1000"], "batch_size = 1000"),
        (["--agent.projections.max_norm", "-1"], "radius"),
        (["--agent.regularizers.dr33", "1"], "dr33"),
        (["--data", "nowhere.hdf5"], "nowhere.hdf5"),
        (["--data", "gridwrld"], "gridwrld"),
        (["--data", "gridworld?sizes=3"], "sizes"),
        (["--env", "CartPole-v1"], "CartPole-v1"),
        (["--device", "tpu9"], "tpu9"),
        (["--seeds", "0"], "seeds"),
        (["--steps"], "--steps"),
    ],
)
def test_bad_input_is_one_line_exit_code_two_and_nothing_written(
    config, tmp_path, capsys, override, message
):
    logdir = tmp_path / "logs"
    assert run("train", config, *override, "--logdir", logdir) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("rlop: ")
    assert len(error.splitlines()) == 1
    assert not logdir.exists()


def test_missing_and_broken_configuration(tmp_path, capsys):
    assert run("train", tmp_path / "none.yaml") == 2
    (tmp_path / "bad.yaml").write_text("a: [1,")
    assert run("train", tmp_path / "bad.yaml") == 2
    assert run("train") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


def test_unknown_command_and_help(capsys):
    assert run("trian") == 2
    assert run("--help") == 0
    assert "rlop train" in capsys.readouterr().err
    assert run("train", "--help") == 0
    assert "probe_every" in capsys.readouterr().out


def test_collect_then_train_in_one_configuration(tmp_path, capsys):
    config = tmp_path / "cartpole.yaml"
    file = tmp_path / "data" / "random.hdf5"
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
    config = tmp_path / "mixture.yaml"
    file = tmp_path / "mixed.hdf5"
    config.write_text(
        f"data: {file}\ncollect: {{env: CartPole-v1, mix: {{random: 1.0}}, shuffle: true, steps: 300}}\nsteps: 5\n"
        "eval_episodes: 0\nagent: {hidden: [8], batch_size: 8}\n"
    )
    assert run("train", config, "--logdir", tmp_path / "logs") == 0
    assert len(load_dataset(file)) == 300


@pytest.mark.parametrize(
    ("script", "overrides"),
    [
        ("gridworld", ["--data", "gridworld?size=4&steps=300", "--seeds", "2"]),
        (
            "classic",
            ["--collect.policy", "random", "--collect.steps", "300", "--eval_episodes", "2"],
        ),
        (
            "minatar",
            ["--collect.policy", "random", "--collect.steps", "300", "--eval_episodes", "2"],
        ),
    ],
)
def test_scripts_train(script, overrides, tmp_path):
    """As a user starts them: in a process of their own, whose first import path is the scripts' folder."""
    if script == "minatar":
        pytest.importorskip("minatar")
    argv = [
        sys.executable,
        f"scripts/{script}.py",
        *overrides,
        "--steps",
        "20",
        "--logdir",
        str(tmp_path / "logs"),
    ]
    if script != "gridworld":
        argv += ["--data", str(tmp_path / "data.hdf5"), "--log_every", "10"]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    content = load(tmp_path / "logs" / "checkpoint.pt")
    assert content["step"] == 20
    moved = [
        (content["state"]["initial"][k] - p).abs().max()
        for k, p in content["state"]["online"].items()
    ]
    assert max(moved) > 0
    assert json.loads((tmp_path / "logs" / "runs.json").read_text())["labels"]


@pytest.mark.parametrize(
    "config", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_every_shipped_configuration_is_valid_and_restates_no_default(config):
    from rlop.config.files import read_yaml, to_dict
    from rlop.config.schema import build
    from rlop.training.checkpoint import agent_class
    from rlop.training.run import Experiment, from_args

    values = read_yaml(config)
    experiment, _ = from_args([str(config)])
    defaults = to_dict(Experiment())
    for key, value in values.items():
        assert value != defaults[key], f"{key} restates its default"
    options = dict(values.get("agent", {}))
    cls = agent_class(options.pop("name", "DQN"))
    build(cls.Config, options)
    standard = to_dict(cls.Config())
    for key, value in options.items():
        assert value != standard[key], f"agent.{key} restates its default"
    assert experiment.steps > 0


def test_the_command_is_installed():
    found = subprocess.run(
        [Path(sys.executable).parent / "rlop", "--help"], capture_output=True, text=True, check=True
    )
    assert "rlop collect" in found.stderr
