"""The house rules that a machine can hold: who imports whom, how long a file is, what a docstring says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*ROOT.glob("rlop/**/*.py"), *ROOT.glob("agents/*.py")])

# A module may import those of its own level and of the levels above it in this list.
LEVELS = [
    {"types"},
    {"checks", "build"},
    {"regularizers", "projections", "td", "distributional", "noise", "tanh_gaussian", "nets", "optim", "probes",
     "envs"},
    {"config", "record", "stats", "events", "board", "picture", "report", "progress", "data", "runs", "terms",
     "learner", "evaluate", "checkpoint", "launch", "stop", "training", "experiment", "experiments", "sweep"},
    {"agents"},
    {"cli"},
]  # fmt: skip


def part(path):
    """`rlop/data/hdf5.py` -> data, `agents/dqn.py` -> agents, `rlop/td.py` -> td."""
    relative = path.relative_to(ROOT).with_suffix("").parts
    return "agents" if relative[0] == "agents" else relative[1]


def level(name):
    return next(i for i, names in enumerate(LEVELS) if name in names)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "rlop" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("rlop."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    if path == ROOT / "rlop" / "__init__.py":
        return
    for imported in imports(path):
        assert level(imported) <= level(part(path)), f"{path.name} imports rlop.{imported}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_hold_one_idea(path):
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.parametrize("package", ["regularizers", "probes", "projections"])
def test_public_maths_names_its_arguments_and_its_source(package):
    found = sorted(ROOT.glob(f"rlop/{package}/*.py")) or [ROOT / "rlop" / f"{package}.py"]
    for path in found:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node) or ""
                assert "Args:" in text or not node.args.args, f"{path.name}: {node.name}"


def test_nothing_a_stranger_wrote_is_unpickled():
    for path in FILES:
        text = path.read_text()
        for trap in ("allow_pickle=True", "weights_only=False", "yaml.load(", "pickle.load"):
            assert trap not in text, f"{path.name}: {trap}"


def test_importing_the_library_loads_no_optional_package():
    code = (
        "import sys, rlop, rlop.training, rlop.experiment, rlop.agents;"
        "heavy = {'stable_baselines3', 'matplotlib', 'minatar', 'minari', 'ale_py', 'd4rl', 'pandas',"
        " 'torch.utils.tensorboard'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_wheel_holds_every_package():
    listed = (ROOT / "pyproject.toml").read_text()
    for path in ROOT.glob("rlop/**/__init__.py"):
        assert f'"{".".join(path.parent.relative_to(ROOT).parts)}"' in listed, path.parent
