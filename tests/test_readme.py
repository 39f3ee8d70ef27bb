"""What the README and the site name exists; their blocks are run by test_docs_pages.py."""

import re
from pathlib import Path

import pytest
from helpers.pages import PAGES

import rlop
from rlop.agent import Agent

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
# The change log has old names as well, and CONTRIBUTING.md one to be filled in.
NOW = [page for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")]


def test_the_recipe_of_an_agent_has_every_member_of_the_contract():
    recipe = (ROOT / "docs" / "howto" / "agent.md").read_text()
    for member in Agent.__abstractmethods__:
        assert f"def {member}(" in recipe, member


@pytest.mark.parametrize("document", NOW, ids=lambda path: path.name)
def test_dotted_names_exist(document):
    for dotted in set(re.findall(r"`(rlop(?:\.[a-zA-Z_]+)+)", document.read_text())):
        value = rlop
        for part in dotted.split(".")[1:]:
            value = getattr(value, part)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document):
    text = document.read_text()
    for name in re.findall(r"(?:configs|scripts|docs|rlop|tests|agents)/[\w/]+\.\w+", text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([\w./-]+\.\w+)\)", text):
        assert (document.parent / target).exists(), target


def test_the_readme_is_two_screens():
    assert len(README.splitlines()) <= 110
