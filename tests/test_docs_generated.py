"""What the site makes from the code: tables of options and measurements, API, docstrings."""

import sys

import pytest
from helpers.pages import PAGES, ROOT, fences

sys.path.append(str(ROOT / "docs"))
import docstrings
import generated


def arguments_of(directive):
    """Return what the pages give to a directive."""
    found = [fence.language for page in PAGES for fence in fences(page)]
    return [text.removeprefix(directive).strip() for text in found if text.startswith(directive)]


@pytest.mark.parametrize("argument", arguments_of("{options}"))
def test_a_table_of_options_has_every_option_that_is_asked_for(argument):
    rows = generated.options_table(argument).splitlines()[2:]
    assert rows
    assert all(row.count(" | ") == 2 for row in rows)
    wanted = argument.split()[1:]
    assert {row.split("`")[1] for row in rows} >= set(wanted)


def test_the_default_of_an_option_is_written_as_in_a_configuration():
    table = generated.options_table("rlop.training.resets:ResetOptions every until kind")
    assert "| `until` | `null` |" in table
    assert "| `kind` | `redo` |" in table


@pytest.mark.parametrize("argument", arguments_of("{measured}"))
def test_a_table_of_measurements_has_rows_of_the_page_that_holds_the_runs(argument):
    text = generated.BASELINES.read_text()
    names = [name.strip() for name in argument.split(";")]
    rows = generated.measured_table(names).splitlines()[2:]
    assert len(rows) == 1 + len(names)
    for row in rows:
        cells = row.strip("| ").split(" | ")[1:]
        for cell in cells:
            assert cell.replace(" **above**", "").replace(" **below**", "") in text


def test_a_word_marks_intervals_that_do_not_meet():
    assert generated.judged("3 ± 0.5 (0.1)", "1 ± 1") == "3 ± 0.5 (0.1) **above**"
    assert generated.judged("3 ± 0.5 (0.1)", "4 ± 0.4") == "3 ± 0.5 (0.1) **below**"
    assert generated.judged("3 ± 0.5 (0.1)", "4 ± 0.6") == "3 ± 0.5 (0.1)"
    assert generated.judged("", "4 ± 0.6") == ""


def test_every_public_name_has_an_entry():
    names = generated.PUBLIC_NAMES.read_text().split()
    for dotted in names:
        assert any(dotted in line for line in generated.entry(dotted)), dotted


def test_a_docstring_becomes_markup():
    lines = [
        "Do it.",
        "",
        "    y = |x|_F",
        "",
        "See `srank` of [R]_.",
        "",
        "Returns: `[R]`, *new*.",
    ]
    assert docstrings.markup(lines) == [
        "Do it.",
        "",
        "",
        "::",
        "",
        "    y = |x|_F",
        "",
        "See ``srank`` of [R]_.",
        "",
        "",
        "Returns:",
        "    ``[R]``, \\*new\\*.",
    ]
