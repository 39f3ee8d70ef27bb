"""YAML files, the command line laid over them, checks, and parts named by import path."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlop.config.checks import check_range, nearest
from rlop.config.files import dump_yaml, read_yaml, write_atomic
from rlop.config.overrides import apply_overrides
from rlop.config.parts import is_import_path, load_part
from rlop.config.terms import PROJECTIONS, REGULARIZERS, Term, read_terms
from rlop.types import InputError


def message(call: Callable[..., object], *args: object, **kwargs: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- checks ---


@pytest.mark.parametrize(
    ("value", "ends", "expected"),
    [
        (1.5, {"low": 0, "high": 1, "high_open": True}, "gamma = 1.5: expected a number in [0, 1)"),
        (0, {"low": 0, "high": 1, "low_open": True}, "gamma = 0: expected a number in (0, 1]"),
        (0.0, {"low": 0, "low_open": True}, "gamma = 0.0: expected a number > 0"),
        (-1, {"low": 0}, "gamma = -1: expected a number >= 0"),
        (2, {"high": 1}, "gamma = 2: expected a number <= 1"),
        (1, {"high": 1, "high_open": True}, "gamma = 1: expected a number < 1"),
        (math.nan, {}, "gamma = nan: expected a number"),
        ("a", {}, "gamma = 'a': expected a number"),
        (True, {}, "gamma = true: expected a number"),
        (None, {"low": 0}, "gamma = null: expected a number >= 0"),
        ([0.5, 3], {"high": 1}, "gamma[1] = 3: expected a number <= 1"),
        ([], {}, "gamma = []: expected at least one value"),
    ],
)
def test_check_range_names_the_value_and_the_range(value, ends, expected):
    assert message(check_range, "gamma", value, **ends) == expected


def test_check_range_takes_the_closed_ends():
    check_range("x", [0, 1, 0.5], low=0, high=1)
    check_range("x", (np.float32(3), math.inf), low=0)


def test_nearest_offers_the_nearest_name_or_lists_all():
    assert nearest("gama", ["gamma", "lr"]) == ", did you mean 'gamma'?"
    assert nearest("CQL", ["cql"]) == ", did you mean 'cql'?"
    assert nearest("zzz", ["a", "b"]) == "; one of a, b"
    assert nearest("zzz", []) == ""
    assert nearest("q", map(str, range(30))).endswith("18, 19, ...")


# --- YAML ---


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_read_yaml_takes_exponents_as_numbers_and_merges_as_yaml_does(tmp_path):
    text = (
        "agent: {lr: 1e-4, x: -2E3, y: 1_0.5e+1}\nsteps: 1_000\nname: 1e\n"
        "base: &b {p: 1}\nmore:\n  <<: *b\n  p: 2\n"
    )
    assert read_yaml(write(tmp_path, text)) == {
        "agent": {"lr": 1e-4, "x": -2000.0, "y": 105.0},
        "steps": 1000,
        "name": "1e",
        "base": {"p": 1},
        "more": {"p": 2},
    }


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_file_is_an_empty_mapping(tmp_path, text):
    assert read_yaml(write(tmp_path, text)) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [1\nc: 2\n", "line 3"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4: duplicate key 'c', expected valid YAML"),
        ("- 1\n", "found list at the top level, expected a mapping (key: value)"),
        ("just text\n", "found str at the top level"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: could not determine a constructor"),
        (b"\xff\xfe\x00a", "found bytes that are not text, expected a YAML file"),
        (b"a: \x01", "found bytes that are not text, expected a YAML file"),
        # what PyYAML refuses with exceptions that are not its own
        ("day: 2023-02-31\n", "expected valid YAML"),
        ("flag: !!bool perhaps\n", "expected valid YAML"),
        ("day: !!timestamp soon\n", "expected valid YAML"),
        ("a: " + "{a: " * 2000 + "}" * 2000, "too many nested brackets, expected valid YAML"),
    ],
)
def test_what_is_not_yaml_is_one_line_that_names_the_file(tmp_path, text, expected):
    path = write(tmp_path, text)
    text_of_error = message(read_yaml, path)
    assert text_of_error.startswith(f"{path}: ")
    assert expected in text_of_error


def test_aliases_are_counted_as_what_they_stand_for(tmp_path):
    path = tmp_path / "x.yaml"
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for i in range(1, 9):
        lines.append(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]")

    path.write_text("\n".join(lines[:3]))
    assert len(read_yaml(path)["a2"]) == 10
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"x\.yaml: line 6: more than 1,000,000 values"):
        read_yaml(path)
    path.write_text("a: &a {b: *a}")
    with pytest.raises(InputError, match=r"x\.yaml: line 1: an alias inside of what it stands for"):
        read_yaml(path)


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path):
    (tmp_path / "dqn.yaml").touch()
    expected = "no such file, did you mean 'dqn.yaml'?"
    assert message(read_yaml, tmp_path / "dqm.yaml").endswith(expected)
    assert message(read_yaml, tmp_path / "none" / "a.yaml").endswith("no such file")
    assert "cannot be read" in message(read_yaml, tmp_path)


def test_dump_yaml_is_readable(tmp_path):
    dump_yaml({"agent": {"hidden": (64, 64), "lr": 1e-5}, "seeds": 8}, tmp_path / "a.yaml")
    expected = "agent:\n  hidden: [64, 64]\n  lr: 1.0e-05\nseeds: 8\n"
    assert (tmp_path / "a.yaml").read_text() == expected


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.yaml"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]  # the write that fails
    assert path.read_bytes() == b"old"

    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


# --- the command line ---


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--seeds 8", {"seeds": 8}),
        ("--seeds=8", {"seeds": 8}),
        ("--agent.lr 1e-3,3e-4", {"agent": {"lr": [1e-3, 3e-4]}}),
        ("--agent.lr 1e-3 3e-4", {"agent": {"lr": [1e-3, 3e-4]}}),
        ("--agent.lr [1e-3,3e-4]", {"agent": {"lr": [1e-3, 3e-4]}}),
        ("--agent.hidden [64,64]", {"agent": {"hidden": [64, 64]}}),
        ("--agent.hidden [64] [8]", {"agent": {"hidden": [[64], [8]]}}),
        ("--a -3 --b -.5e-2", {"a": -3, "b": -0.005}),
        ("--a true --b null --c false", {"a": True, "b": None, "c": False}),
        ("--a 1 --a 2", {"a": 2}),
        ("--a.b 1 --a.c 2", {"a": {"b": 1, "c": 2}}),
        ("--a {x:,y}", {"a": {"x": None, "y": None}}),
        ("--data d4rl:hopper-medium-v2", {"data": "d4rl:hopper-medium-v2"}),
        ("--data @x* --b #5 --c ~/d.hdf5", {"data": "@x*", "b": "#5", "c": "~/d.hdf5"}),
        ("--a 2024-01-01 --b 2024-13-45", {"a": "2024-01-01", "b": "2024-13-45"}),
        ("--a '1,2' --b \"3\"", {"a": "1,2", "b": "3"}),
        ("--a=x=y", {"a": "x=y"}),
        ("--names [a,b]", {"names": ["a", "b"]}),
        ("--data world?epsilon=0.1,0.5", {"data": "world?epsilon=0.1,0.5"}),
        ("--lr 1e-3,1", {"lr": [1e-3, 1]}),
        ("", {}),
        # a key alone means true
        ("--resume --seeds 2", {"resume": True, "seeds": 2}),
        ("--agent.layer_norm", {"agent": {"layer_norm": True}}),
    ],
)
def test_a_command_line_becomes_nested_values(line, expected):
    assert apply_overrides({}, line.split(), flags=["resume"]) == expected


def test_the_values_of_the_file_stay_as_they_are():
    values = {"agent": {"lr": 1, "terms": {"dr3": 0.03}}, "empty": None}
    line = "--agent.gamma 0.5 --agent.terms.l2 1 --empty.x 1"

    assert apply_overrides(values, line.split()) == {
        "agent": {"lr": 1, "terms": {"dr3": 0.03, "l2": 1}, "gamma": 0.5},
        "empty": {"x": 1},
    }
    assert values == {"agent": {"lr": 1, "terms": {"dr3": 0.03}}, "empty": None}


def test_a_name_with_dots_that_the_file_holds_is_one_name():
    values = {"terms": {"my_pkg.reg:Norm": 0.1}, "variants": {"a": {"terms.dr3": 1}}}
    line = "--terms.my_pkg.reg:Norm.power 2 --variants.a.terms.dr3 3"
    assert apply_overrides(values, line.split()) == {
        "terms": {"my_pkg.reg:Norm": {"": 0.1, "power": 2}},
        "variants": {"a": {"terms.dr3": 3}},
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seeds 8", "command line: found 'seeds', expected --key value"),
        ("--seeds", "--seeds: expected a key and a value, as in --seeds 8"),
        ("--a --b 1", "--a: expected a key and a value"),
        ("--a..b 1", "--a..b: expected a key and a value"),
        ("-- 1", "--: expected a key and a value"),
        ("--a=", "--a: found an empty value, expected a value"),
        ("--a [1,2", "--a [1,2: expected a YAML value with its brackets and quotes closed"),
    ],
)
def test_a_command_line_that_is_not_understood_is_refused(line, expected):
    assert message(apply_overrides, {}, line.split()).startswith(expected)


# --- terms: a number, or a number with options ---


@pytest.mark.parametrize("kind", [REGULARIZERS, PROJECTIONS], ids=["coef", "radius"])
@pytest.mark.parametrize(
    ("entry", "line", "value", "options"),
    [
        (0.03, "", 0.03, {}),
        (0.03, "--terms.t.form abs", 0.03, {"form": "abs"}),
        ([1, 2], "--terms.t.form abs", [1, 2], {"form": "abs"}),
        ({"form": "abs", "SCALE": 0.03}, "--terms.t 0.1", 0.1, {"form": "abs"}),
        ({"form": "abs"}, "--terms.t 1 0.1", [1, 0.1], {"form": "abs"}),
        ({"SCALE": 1}, "--terms.t.form abs", 1, {"form": "abs"}),
        ({"SCALE": 1}, "--terms.t.SCALE 2", 2, {}),
    ],
)
def test_short_and_long_form_of_a_term_go_together(kind, entry, line, value, options):
    if isinstance(entry, dict):
        entry = {name.replace("SCALE", kind.scale): item for name, item in entry.items()}
    arguments = line.replace("SCALE", kind.scale).split()

    merged = apply_overrides({"terms": {"t": entry}}, arguments)
    assert read_terms(merged["terms"], kind, None) == {"t": Term(value, options)}


def test_a_term_without_its_number_or_with_an_impossible_one_is_refused():
    missing = message(read_terms, {"dr3": {"form": "abs"}}, REGULARIZERS, None)
    assert "regularizers.dr3: coef is missing" in missing
    negative = message(read_terms, {"dr3": -1}, REGULARIZERS, None)
    assert "regularizers.dr3.coef = -1: expected a number >= 0" in negative
    zero = message(read_terms, {"max_norm": 0}, PROJECTIONS, None)
    assert "projections.max_norm.radius = 0: expected a number > 0" in zero


def test_a_term_that_only_a_variant_names_is_off_elsewhere():
    variants = {"a": {"regularizers.dr3": 1.0, "projections.max_norm": 2.0, "lr": 1.0}}
    assert read_terms({}, REGULARIZERS, variants) == {"dr3": Term(0.0, {})}
    assert read_terms({}, PROJECTIONS, variants) == {"max_norm": Term(math.inf, {})}


# --- parts by import path ---


def test_a_part_is_imported_by_its_path():
    assert load_part("math:sqrt", "a function") is math.sqrt
    assert load_part("os.path:join", "a function") is sys.modules["os.path"].join
    assert is_import_path("a.b:C")
    assert not is_import_path("dr3/paper")


@pytest.fixture
def broken_module(tmp_path, monkeypatch):
    (tmp_path / "broken_part.py").write_text("raise RuntimeError('first line\\nsecond line')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "broken_part"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nowhere_at_all:X", "module 'nowhere_at_all' cannot be imported"),
        ("math:sqr", "module 'math' has no 'sqr', did you mean 'sqrt'?"),
        ("math", "expected a function, as registered or as module:Name"),
        ("math:", "expected a function, as registered or as module:Name"),
        ("os path:join", "expected a function, as registered or as module:Name"),
        ("broken_part:X", "cannot be imported (RuntimeError: first line)"),
    ],
)
def test_a_part_that_is_not_there_is_one_line(broken_module, path, expected):
    text = message(load_part, path, "a function")
    assert text.startswith(repr(path))
    assert expected in text
