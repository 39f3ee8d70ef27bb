"""The pages on guarantees and determinism keep their word: each of their commands can be run."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / name for name in ("guarantees.md", "determinism.md")]


def commands(text: str) -> list[list[str]]:
    """Return the lines of the shell blocks of a text, each in words."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def names_in(file: Path) -> set[str]:
    """Return the names of the tests in a file."""
    nodes = ast.parse(file.read_text()).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_exist(page):
    lines = [line for line in commands(page.read_text()) if "pytest" in line]
    assert len(lines) >= 5
    for line in lines:
        assert line[:3] == ["python", "-m", "pytest"]
        for node in line[3:]:
            file, _, name = node.partition("::")
            assert (ROOT / file).exists(), node
            assert not name or name in names_in(ROOT / file), node


def test_every_guarantee_has_a_command_and_a_limit():
    sections = PAGES[0].read_text().split("\n## ")[1:]
    assert len(sections) >= 10
    for section in sections:
        assert commands(section), section.splitlines()[0]
        assert re.search(r"\b[Nn]ot (guaranteed|run)\b|\bMeasured with\b", section), section


def test_the_options_of_chaos_exist():
    script = (ROOT / "scripts" / "chaos.py").read_text()
    for page in PAGES:
        for options in re.findall(r"scripts/chaos\.py([^`\n]*)", page.read_text()):
            for option in re.findall(r"--\w+", options):
                assert f'add("{option}"' in script, option


def test_the_page_on_determinism_names_every_place_that_makes_generators():
    page = PAGES[1].read_text()
    for path in [*ROOT.glob("rlop/training/*.py"), *ROOT.glob("rlop/nets/*.py")]:
        if re.search(r"manual_seed\(|default_rng\(|SeedSequence\(", path.read_text()):
            assert f"`{path.relative_to(ROOT)}`" in page, path
