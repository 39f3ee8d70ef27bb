"""The README keeps its word: its code runs as it stands, and what it names exists."""

import re
from pathlib import Path

import pytest

import rlop
from rlop.agent import Agent

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def run_blocks(text: str, folder: Path) -> dict[str, object]:
    """Run the Python blocks of a text in order, as one program, and return its variables.

    A block whose first line is a comment with a file's name is written to that file.
    """
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        file = re.match(r"# (\w+\.py)\n", block)
        if file:
            (folder / file[1]).write_text(block)
        else:
            exec(compile(block, "README.md", "exec"), scope)
    return scope


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """A new working directory from which modules can be imported, as beside a user's script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_python_blocks_run_in_order(empty_folder, capsys):
    scope = run_blocks(README, empty_folder)

    assert "srank" in capsys.readouterr().out
    assert scope["srank"].shape[1] == 8
    assert scope["action"].shape == (8, 1)
    for folder in ("first", "norm", "fitted"):
        assert (empty_folder / "runs" / folder / "checkpoint.pt").exists(), folder


def test_the_recipe_of_an_agent_has_every_member_of_the_contract():
    recipe = README.partition("## An agent of your own")[2]
    for member in Agent.__abstractmethods__:
        assert f"def {member}(" in recipe, member


def test_dotted_names_exist():
    for dotted in set(re.findall(r"`(rlop(?:\.[a-zA-Z_]+)+)", README)):
        value = rlop
        for part in dotted.split(".")[1:]:
            value = getattr(value, part)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document):
    text = document.read_text()
    for name in re.findall(r"(?:configs|scripts|docs|rlop|tests|agents)/[\w/]+\.\w+", text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([\w./-]+\.\w+)\)", text):
        assert (document.parent / target).exists(), target
