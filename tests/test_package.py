"""The package as others see it: public names, old names, lazy imports, versions and their pins."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import rlop
from rlop._imports import MODULES, NAMES

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# The one list of public names. To remove a name raises the minor version (see CHANGELOG.md).
# To write the list again: python tests/test_package.py > tests/public_names.txt
PUBLIC_NAMES = (ROOT / "tests" / "public_names.txt").read_text().split()
PUBLIC_PACKAGES = ("", "agents", "data", "envs", "nets", "optim", "probes", "regularizers")


def public_names() -> list[str]:
    """Return what the public packages export, as dotted names in order."""
    names = []
    for package in PUBLIC_PACKAGES:
        module = import_module(f"rlop.{package}".rstrip("."))
        names += [f"{module.__name__}.{name}" for name in module.__all__]
    return sorted(names)


def run_python(code: str) -> str:
    """Run code in a fresh interpreter that sees the checkout, and return what it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- public names ---


def test_public_names_are_those_of_the_list():
    assert public_names() == PUBLIC_NAMES


def test_every_public_name_exists():
    for name in PUBLIC_NAMES:
        package, _, attribute = name.rpartition(".")
        assert hasattr(import_module(package), attribute), name


def test_import_rlop_loads_neither_torch_nor_numpy():
    heavy = "{'torch', 'numpy', 'gymnasium', 'h5py', 'yaml'}"
    assert run_python(f"import sys, rlop; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_rooms_and_public_names_are_attributes_of_the_package():
    for path in (ROOT / "rlop").iterdir():
        is_room = path.suffix == ".py" or (path / "__init__.py").exists()
        if is_room and not path.name.startswith("_") and path.stem not in ("cli", "command"):
            assert rlop.__getattr__(path.stem) is import_module(f"rlop.{path.stem}")
            assert path.stem in dir(rlop)

    assert set(rlop.__all__) <= set(dir(rlop))
    assert rlop.__getattr__("agents") is import_module("rlop.agents")


def test_a_checkout_lends_the_package_its_agents_and_nothing_else():
    assert Path(import_module("rlop.agents").__file__).parent == ROOT / "agents"
    assert import_module("rlop.agents").DQN.__module__ == "rlop.agents.dqn"
    for folder in ("scripts", "tests", "configs", "rlop"):
        assert find_spec(f"rlop.{folder}") is None
        with pytest.raises(AttributeError, match=f"no attribute '{folder}'"):
            getattr(rlop, folder)


# --- old names ---


def test_old_modules_are_gone_and_their_new_places_exist():
    for old, new in MODULES.items():
        path = ROOT / old.replace(".", "/")
        assert not path.with_suffix(".py").exists(), old
        assert find_spec(new) is not None, new


def test_an_old_module_is_the_new_one_and_warns_where_it_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "rlop.td", raising=False)

    with pytest.warns(DeprecationWarning, match="rlop.td is now rlop.losses.td") as record:
        old = import_module("rlop.td")

    assert old is import_module("rlop.losses.td")
    assert len(record) == 1


def test_the_warning_of_an_old_module_points_to_the_line_that_imports_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rlop.checkpoint", raising=False)
    script = tmp_path / "old.py"
    script.write_text("import rlop\nfrom rlop.checkpoint import load_agent\n")
    with pytest.warns(
        DeprecationWarning, match=r"rlop.checkpoint is now rlop.training.checkp"
    ) as seen:
        runpy.run_path(str(script))
    assert [(warning.filename, warning.lineno) for warning in seen] == [(str(script), 2)]


@pytest.mark.parametrize("old", NAMES)
def test_an_old_name_warns_where_it_is_read_and_is_the_new_one(old):
    package, _, name = old.rpartition(".")
    new_module, _, new_name = NAMES[old].rpartition(".")
    module = import_module(package)

    with pytest.warns(DeprecationWarning, match=re.escape(f"{old} is now {NAMES[old]}")) as record:
        value = getattr(module, name)

    assert value is getattr(import_module(new_module), new_name)
    assert record[0].filename == __file__


# --- versions ---


def test_changelog_and_citation_name_the_version():
    versions = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == rlop.__version__
    assert f"version: {rlop.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def requirements() -> dict[str, str]:
    """Return package -> lower bound, of dependencies and of the extras that the tests install."""
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    listed = list(PROJECT["dependencies"])
    for extra in ("test", *extras.split(",")):
        listed += PROJECT["optional-dependencies"][extra]
    pairs = [re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups() for requirement in listed]
    return {canonical(name): bound for name, bound in pairs}


def pins(file: str) -> dict[str, str]:
    """Return package -> version of a file of constraints."""
    pairs = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / file).read_text(), re.MULTILINE)
    return {canonical(name): version for name, version in pairs}


def canonical(name: str) -> str:
    """Return the name of a package as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_and_its_lower_bound_is_the_one_tested():
    newest, oldest = pins("constraints.txt"), pins("constraints-lower.txt")
    for name, bound in requirements().items():
        assert name in newest, name
        assert f"{oldest[name]}.".startswith(f"{bound}."), f"{name}: {oldest[name]}, bound {bound}"


def test_what_builds_the_site_is_pinned_at_its_lower_bound_or_above():
    newest = pins("constraints.txt")
    for requirement in PROJECT["optional-dependencies"]["docs"]:
        name, bound = requirement.split(">=")
        wanted = [int(part) for part in bound.split(".")]
        assert [int(part) for part in newest[canonical(name)].split(".")] >= wanted, requirement


if __name__ == "__main__":
    print("\n".join(public_names()))
