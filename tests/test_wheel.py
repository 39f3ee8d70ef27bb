"""The installed wheel, outside the checkout: agents live at `rlop.agents`, the command runs."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_agents_import_from_the_installed_wheel(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("rlop-*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, cwd=tmp_path
    )
    code = (
        "import rlop, rlop.agents, importlib.metadata as m;"
        "assert rlop.__file__.startswith({site!r}) and rlop.agents.__file__.startswith({site!r}), rlop.agents.__file__;"
        "from rlop.agents import DQN, DiscreteCQL;"
        "from rlop.types import Spec;"
        "print(DiscreteCQL(Spec((4,), 2), seeds=2, hidden=(8,)).runs.labels, rlop.load_dataset('chain?steps=50').name)"
    ).replace("{site!r}", repr(str(site)))
    environment = {**os.environ, "PYTHONPATH": str(site)}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "('seed=0', 'seed=1') chain?steps=50"
