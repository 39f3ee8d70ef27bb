"""The scripts as users start them: in a process, whose first import path is their folder."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers.experiments import ROOT

from rlop.command import leave_script_folder

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


def start(*arguments, **environment):
    """Run a script in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_gives_help(script):
    done = start(f"scripts/{script}", "--help")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 200


@pytest.mark.parametrize("package", ["mujoco", "minatar"])
def test_a_script_does_not_hide_the_package_of_its_name(package, tmp_path):
    if find_spec(package) is None:  # an optional one: a stand-in of its name will do
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "probe_source.py").write_text(SOURCE.format(package=package))
    config = tmp_path / "config.yaml"
    config.write_text("data: probe_source:load")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])

    done = start(f"scripts/{package}.py", str(config), PYTHONPATH=path)
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
