"""What is installed: the wheel, its content, and the three ways to import the package."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_editable, build_wheel

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments, cwd, **variables):
    """Run an interpreter in a folder, with only the given PYTHONPATH; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder with the wheel's files, as an installer leaves them."""
    folder = tmp_path_factory.mktemp("site")
    return unpack(build_wheel, folder)


def unpack(build, folder):
    """Build a wheel of the checkout and unpack it into a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build(str(folder))
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder)
    return folder


def test_the_wheel_holds_the_package_with_its_agents_configurations_and_data(site):
    for folder in ("rlop", "agents", "configs"):
        for source in ROOT.glob(f"{folder}/**/*"):
            is_shipped = source.suffix in (".py", ".json", ".yaml") or source.name == "py.typed"
            if not is_shipped:
                continue

            inside = source.relative_to(ROOT)
            if folder != "rlop":
                inside = Path("rlop") / inside
            assert (site / inside).read_bytes() == source.read_bytes(), inside


def test_the_wheel_holds_nothing_else(site):
    packages = {path.name for path in site.iterdir() if path.is_dir()}
    assert {name for name in packages if not name.endswith(".dist-info")} == {"rlop"}


def test_the_metadata_name_the_license_and_ship_its_files(site):
    (info,) = site.glob("rlop-*.dist-info")
    metadata = (info / "METADATA").read_text()
    assert "License-Expression: MIT\n" in metadata
    for file in ("LICENSE", "THIRD_PARTY.md"):
        assert (info / "licenses" / file).read_text() == (ROOT / file).read_text()


def test_the_wheel_works_in_an_empty_folder_and_so_does_its_demo(site, tmp_path):
    line = "demo --data gridworld?size=4&steps=300 --steps 10 --seeds 1 --logdir logs --quiet"
    code = (
        "import runpy\n"
        "import rlop\n"
        "from rlop.agents import DiscreteCQL\n"
        "from rlop.types import Spec\n"
        "agent = DiscreteCQL(Spec((4,), 2), seeds=2, hidden=(8,))\n"
        "data = rlop.load_dataset('chain?steps=50')\n"
        "score = rlop.data.normalized_score(0.0, 'hopper-medium-v2')\n"
        "print(rlop.__file__, rlop.agents.__file__, sep='\\n')\n"
        "print(agent.runs.labels, data.name, score.round(2))\n"
        "runpy.run_module('rlop.cli', run_name='__main__')\n"
    )
    printed = run_python("-c", code, *line.split(), cwd=tmp_path, PYTHONPATH=str(site))
    package, agents, values, *demo = printed.splitlines()
    assert Path(package) == site / "rlop" / "__init__.py"
    assert Path(agents) == site / "rlop" / "agents" / "__init__.py"
    assert values == "('seed=0', 'seed=1') chain?steps=50 0.62"
    assert any("DQN + DR3" in line for line in demo)
    assert (tmp_path / "logs" / "curves.png").stat().st_size > 0


@pytest.mark.parametrize("inside", [True, False])
def test_a_bare_checkout_imports_from_its_folder_and_by_pythonpath(inside, tmp_path):
    code = (
        "import rlop\n"
        "from importlib.util import find_spec\n"
        "print(rlop.__file__, find_spec('rlop.agents').origin)\n"
    )
    if inside:
        printed = run_python("-c", code, cwd=ROOT)
    else:
        printed = run_python("-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert printed == f"{ROOT / 'rlop' / '__init__.py'} {ROOT / 'agents' / '__init__.py'}"


def test_an_editable_install_imports_from_the_folder_above_a_clone_called_rlop(tmp_path):
    # `-S` leaves out the environment's own packages, so that only this install can be found.
    site = unpack(build_editable, tmp_path)
    above = tmp_path / "above"
    above.mkdir()
    (above / "rlop").symlink_to(ROOT, target_is_directory=True)
    code = (
        "import site, sys\n"
        "site.addsitedir(sys.argv[1])\n"
        "import rlop\n"
        "from importlib.util import find_spec\n"
        "print(rlop.__file__, find_spec('rlop.agents').origin, rlop.__version__)\n"
    )
    printed = run_python("-S", "-c", code, str(site), cwd=above)
    package, agents, _ = printed.split()
    assert Path(package) == ROOT / "rlop" / "__init__.py"
    assert Path(agents) == ROOT / "agents" / "__init__.py"
