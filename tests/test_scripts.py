"""The scripts as users start them, with their folder as the first import path."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers.experiments import ROOT, main_program

from rlop.command import leave_script_folder
from rlop.training.checkpoint import load

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))

# A source of data, loaded by a training in the script's process.
SOURCE = """
import importlib
from rlop.types import InputError

def load():
    import rlop.training.run
    package = importlib.import_module({package!r})
    raise InputError(f"{{package.__spec__.origin}} and {{rlop.__file__}}")
"""


# Trained as users start them in `test_a_script_does_not_hide_the_package_of_its_name`, and in the
# tests of MuJoCo: a process of its own for every script would start PyTorch a dozen times. All of
# them leave their folder.
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_gives_help(script, monkeypatch, capsys):
    code = main_program(monkeypatch, script, "--help")
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert len(shown.out) > 200
    if script != "coverage.py":  # imports nothing that another script could hide
        assert sys.path[0] == str(ROOT)
    if script in ("gridworld.py", "mujoco.py"):
        assert "--agent.lr" in shown.out
    if script == "mujoco.py":
        assert shown.out.startswith(f"usage: python {sys.argv[0]} [CONFIG.yaml] [--key value ...]")
        assert "rlop train" not in shown.out


@pytest.mark.parametrize(
    ("script", "overrides"),
    [
        ("gridworld", "--data gridworld?size=4&steps=300 --seeds 2"),
        ("classic", "--collect.policy random --collect.steps 300 --eval_episodes 2"),
        ("minatar", "--collect.policy random --collect.steps 300 --eval_episodes 2"),
    ],
)
def test_scripts_train(script, overrides, tmp_path, monkeypatch, capsys):
    if script == "minatar":
        pytest.importorskip("minatar")
    argv = [*overrides.split(), "--steps", "20"]
    if script != "gridworld":
        argv += ["--data", tmp_path / "data.hdf5", "--log_every", "10"]

    code = main_program(monkeypatch, f"{script}.py", *argv, "--logdir", tmp_path / "logs")
    assert code == 0, capsys.readouterr().err
    assert load(tmp_path / "logs" / "checkpoint.pt")["step"] == 20
    assert json.loads((tmp_path / "logs" / "runs.json").read_text())["labels"]


def test_a_script_does_not_hide_the_package_of_its_name(tmp_path):
    package = "mujoco"
    if find_spec(package) is None:  # an optional one: a stand-in of its name will do
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "probe_source.py").write_text(SOURCE.format(package=package))
    config = tmp_path / "config.yaml"
    config.write_text("data: probe_source:load")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])

    done = subprocess.run(
        [sys.executable, f"scripts/{package}.py", str(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{os.sep}{package}{os.sep}__init__.py" in done.stderr
    assert str(ROOT / "rlop" / "__init__.py") in done.stderr


def test_only_the_folder_of_the_script_leaves_the_import_path(monkeypatch):
    folder = str(ROOT / "scripts")
    monkeypatch.setattr(sys, "path", [folder, "/elsewhere", folder])
    leave_script_folder(f"{folder}/mujoco.py")
    assert sys.path == [str(ROOT), "/elsewhere", folder]

    monkeypatch.setattr(sys, "path", ["/elsewhere", folder])
    leave_script_folder(f"{folder}/mujoco.py")
    assert sys.path == ["/elsewhere", folder]
