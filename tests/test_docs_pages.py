"""Every Python and shell block of the README and the site runs as it stands."""

import re
from collections import Counter

import pytest
from helpers.pages import PAGES, ROOT, fences, run_page
from helpers.sweeps import sweep_here

# Blocks that need data, packages or machines which a test does not have, by page. A number grows
# only here, so that nobody adds one silently; each says why in a comment before it.
NOT_RUN = {
    "docs/agents.md": 1,
    "docs/atari.md": 1,
    "docs/coming_from.md": 2,
    "docs/d4rl.md": 2,
    "docs/doctor.md": 1,
    "docs/report.md": 1,
    "docs/sweeps.md": 4,
}
LANGUAGES = {
    "",
    "bash",
    "json",
    "python",
    "sh",
    "text",
    "yaml",
    "{include}",
    "{measured}",
    "{options}",
    "{toctree}",
}
ELSEWHERE = {"docs/interop.md"}  # its blocks need packages of others: tests/test_docs_interop.py


def name_of(page):
    return str(page.relative_to(ROOT))


def has_programs(page):
    """Tell whether a page has blocks for this file to run."""
    languages = {fence.language for fence in fences(page)}
    return bool(languages & {"python", "bash", "sh"}) and name_of(page) not in ELSEWHERE


RUNNING = [page for page in PAGES if has_programs(page)]


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """A new working directory from which modules can be imported, as beside a user's script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sweep_here(monkeypatch)
    return tmp_path


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_the_blocks_of_a_page_run_in_order(page, empty_folder):
    run_page(page, empty_folder)


def test_the_blocks_that_are_not_run_are_counted():
    counts = Counter({name_of(page): sum(bool(f.why) for f in fences(page)) for page in PAGES})
    assert +counts == Counter(NOT_RUN)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_names_its_language(page):
    for fence in fences(page):
        kind = fence.language.split(" ")[0]
        assert kind in LANGUAGES, fence.language
        assert kind or not re.match(r"(rlop|python|make|pip|import|from) ", fence.code), fence.code
