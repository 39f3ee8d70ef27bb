"""The catalogue is whole, strictly read, and names things that exist."""

import pkgutil
import re
from importlib import import_module

import pytest
import yaml
from helpers.experiments import abstract

from rlop.experiments.catalogue import WORKSHOP, load_workshop, workshop
from rlop.types import InputError

ABSTRACTS = workshop().abstracts
HOMES = sorted(set().union(*(row.homes for row in ABSTRACTS)))


def test_the_catalogue_holds_51_abstracts_with_distinct_titles():
    assert len(ABSTRACTS) == 51
    assert len({row.title for row in ABSTRACTS}) == 51


@pytest.mark.parametrize("row", ABSTRACTS, ids=lambda row: str(row.number))
def test_every_text_is_trimmed_and_claims_are_sentences(row):
    for text in (row.title, row.authors, row.claim, row.use):
        assert text
        assert text == text.strip()
    assert row.claim[-1] in ".?"
    assert row.use[-1] in ".?"


@pytest.mark.parametrize("path", HOMES)
def test_every_home_is_an_import_path(path):
    assert pkgutil.resolve_name(path) is not None


@pytest.mark.parametrize("name", workshop().experiments)
def test_every_experiment_is_a_module_that_names_its_source(name):
    module = import_module(f"rlop.experiments.{name}")
    text = " ".join(module.__doc__.split())
    assert callable(module.run)
    assert re.search("arXiv|2021 workshop|title was not found", text)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"a": "reproduced", "b": "reproduced"}, "reproduced"),
        ({"a": "reproduced", "b": "not reproduced"}, "not reproduced"),
        ({"a": "reproduced"}, "not run"),
        ({"b": "not reproduced"}, "not reproduced"),  # a failure decides, whatever is missing
        ({}, "not run"),
    ],
)
def test_a_verdict_follows_from_those_of_the_experiments(verdicts, expected):
    assert abstract("a", "b").verdict(verdicts) == expected


def test_an_abstract_without_experiments_is_not_testable():
    assert abstract().verdict({"a": "reproduced"}) == "not testable here"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "modul", r"abstracts\[3\]\.kind = 'modul': expected .*did you mean 'module'"),
        ("number", 5, r"abstracts\[3\]\.number = 5: expected 4"),
        ("number", "4", r"abstracts\[3\]\.number = '4': expected a whole number"),
        ("homes", "rlop.nets", r"abstracts\[3\]\.homes = 'rlop.nets': expected a list"),
        ("arxiv", 2104.1, r"abstracts\[3\]\.arxiv = 2104.1: expected text"),
        ("titel", "x", r"unknown key 'abstracts\[3\]\.titel', did you mean 'title'"),
    ],
)
def test_a_wrong_row_is_one_line_that_names_file_row_and_key(key, value, message, tmp_path):
    content = yaml.safe_load(WORKSHOP.read_text())
    content["abstracts"][3][key] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=rf"^mine\.yaml: {message}"):
        load_workshop(path)


@pytest.mark.parametrize(("row", "key"), [(0, "homes"), (5, "experiments"), (3, "claim")])
def test_a_missing_key_is_named(row, key, tmp_path):
    content = yaml.safe_load(WORKSHOP.read_text())
    del content["abstracts"][row][key]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=rf"abstracts\[{row}\]\.{key}: missing"):
        load_workshop(path)


def test_a_slow_experiment_must_be_one_of_the_abstracts(tmp_path):
    content = yaml.safe_load(WORKSHOP.read_text())
    content["slow_experiments"].append("depht")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"slow_experiments.*did you mean 'depth'"):
        load_workshop(path)


def test_fast_and_slow_experiments_are_all_of_them():
    catalogue = workshop()
    slow = set(catalogue.slow_experiments)
    assert slow < set(catalogue.experiments)
    assert set(catalogue.fast_experiments) == set(catalogue.experiments) - slow
