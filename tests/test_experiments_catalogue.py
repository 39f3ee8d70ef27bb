"""The catalogue is whole, strictly read, and names things that exist."""

import pkgutil
import re
from copy import deepcopy
from functools import cache
from importlib import import_module

import pytest
import yaml
from helpers.experiments import measure

from rlop.experiments.catalogue import WORKSHOP, Clause, load_workshop, workshop
from rlop.types import InputError

ABSTRACTS = workshop().abstracts
HOMES = sorted(set().union(*(row.homes for row in ABSTRACTS)))


def test_the_catalogue_holds_51_abstracts_with_distinct_titles():
    assert len(ABSTRACTS) == 51
    assert len({row.title for row in ABSTRACTS}) == 51


@pytest.mark.parametrize("row", ABSTRACTS, ids=lambda row: str(row.number))
def test_every_text_is_trimmed_and_claims_are_sentences(row):
    clauses = [clause.text for clause in row.clauses]
    reasons = [clause.untested for clause in row.clauses if clause.untested]
    sources = [measure.source for measure in row.measures]
    for text in (row.title, row.authors, row.use, *clauses, *reasons, *sources):
        assert text
        assert text == text.strip()
    for text in (row.use, *clauses):
        assert text[-1] in ".?"


@pytest.mark.parametrize("path", HOMES)
def test_every_home_is_an_import_path(path):
    assert pkgutil.resolve_name(path) is not None


@pytest.mark.parametrize("name", workshop().experiments)
def test_every_experiment_is_a_module_that_names_its_source(name):
    module = import_module(f"rlop.experiments.{name}")
    text = " ".join(module.__doc__.split())
    assert callable(module.run)
    assert re.search("arXiv|2021 workshop|title was not found", text)


def test_a_measure_has_one_band():
    for name in workshop().experiments:
        names = [measure.name for measure in workshop().measures_of(name)]
        assert len(names) == len(set(names)), name


@cache
def plain():
    """The content of the catalogue's file."""
    return yaml.safe_load(WORKSHOP.read_text())


def written(tmp_path, row, change):
    """Write the catalogue up to a row that is changed in place."""
    content = plain() | {"abstracts": deepcopy(plain()["abstracts"][: row + 1])}
    change(content["abstracts"][row])
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "modul", r"abstracts\[3\]\.kind = 'modul': expected .*did you mean 'module'"),
        ("number", 5, r"abstracts\[3\]\.number = 5: expected 4"),
        ("number", "4", r"abstracts\[3\]\.number = '4': expected a whole number"),
        ("homes", "rlop.nets", r"abstracts\[3\]\.homes = 'rlop.nets': expected a list"),
        ("arxiv", 2104.1, r"abstracts\[3\]\.arxiv = 2104.1: expected text"),
        ("clauses", [], r"abstracts\[3\]\.clauses: empty, expected at least one"),
        ("titel", "x", r"unknown key 'abstracts\[3\]\.titel', did you mean 'title'"),
    ],
)
def test_a_wrong_row_is_one_line_that_names_file_row_and_key(key, value, message, tmp_path):
    path = written(tmp_path, 3, lambda row: row.update({key: value}))
    with pytest.raises(InputError, match=rf"^mine\.yaml: {message}"):
        load_workshop(path)


@pytest.mark.parametrize(("row", "key"), [(0, "homes"), (5, "clauses"), (3, "use")])
def test_a_missing_key_is_named(row, key, tmp_path):
    path = written(tmp_path, row, lambda row: row.pop(key))
    with pytest.raises(InputError, match=rf"abstracts\[{row}\]\.{key}: missing"):
        load_workshop(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed": "soon"}, r"measures\[0\]\.fixed = 'soon': expected a date"),
        ({"low": 2, "high": 1}, r"measures\[0\]\.low = 2.0: expected a number <= high = 1.0"),
        ({"low": float("-inf"), "high": float("inf")}, r"measures\[0\]\.low: missing"),
    ],
)
def test_a_band_needs_a_date_and_an_end(change, message, tmp_path):
    def spoil(row):
        row["clauses"][0]["measures"][0].update(change)

    with pytest.raises(InputError, match=message):
        load_workshop(written(tmp_path, 0, spoil))


@pytest.mark.parametrize("values", [{}, {"measures": (measure(0, 1),), "untested": "no time"}])
def test_a_clause_has_either_measures_or_a_reason_for_none(values):
    with pytest.raises(InputError, match="either measures or the reason"):
        Clause("It holds.", **values)


def test_experiments_of_rows_are_each_named_once():
    assert workshop().experiments_of([15]) == ["distributed_regression"]
    assert workshop().experiments_of([15, 15]) == ["distributed_regression"]
    with pytest.raises(InputError, match="row 52: unknown"):
        workshop().experiments_of([52])
