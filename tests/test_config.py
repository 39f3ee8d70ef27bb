from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.config.checks import check_range, nearest
from rlop.config.files import (
    apply_overrides,
    dump_yaml,
    overrides_only,
    read_yaml,
    to_dict,
    write_atomic,
)
from rlop.config.schema import build
from rlop.types import InputError


@dataclass(frozen=True)
class Net:
    hidden: tuple[int, ...] = (64, 64)
    norm: Literal["layer", "none"] = "none"


@dataclass(frozen=True)
class Agent:
    lr: float | list[float] = 1e-3
    gamma: float = 0.99
    double: bool = False
    clip: float | None = None
    regularizers: dict[str, Any] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    net: Net = field(default_factory=Net)

    def __post_init__(self) -> None:
        check_range("lr", self.lr, low=0, low_open=True)
        check_range("gamma", self.gamma, low=0, high=1, high_open=True)


@dataclass(frozen=True)
class Config:
    data: str
    agent: Agent = field(default_factory=lambda: Agent(lr=0.5))  # not the default of Agent itself
    steps: int = 1000
    seeds: int | list[int] = 1
    file: Path | None = None
    names: list[str] = field(default_factory=list)
    box: tuple[float, float] = (0.0, 1.0)
    other: Agent | None = None


def message(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def make(**values: Any) -> Config:
    return build(Config, {"data": "d", **values})


def test_build_keeps_defaults_and_converts_what_it_may():
    config = make(
        agent={"lr": "1e-4", "net": {"hidden": [8]}}, file="a/b.hdf5", box=[1, 2], seeds=[1, 2]
    )
    assert config.agent.lr == 1e-4
    assert config.agent.gamma == 0.99
    assert config.agent.net == Net(hidden=(8,))
    assert config.file == Path("a/b.hdf5")
    assert config.box == (1.0, 2.0)
    assert [type(x) for x in config.box] == [float, float]
    assert config.seeds == [1, 2]
    assert config.steps == 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1_000", -1000.0),
        (".5E+3", 500.0),
        ("2.", 2.0),
        (7, 7.0),
        (np.float64(0.5), 0.5),
    ],
)
def test_numbers_for_floats(text, value):
    found = make(agent={"clip": text}).agent.clip
    assert found == value
    assert type(found) is float


def test_numbers_of_numpy_become_python_numbers():
    config = make(steps=np.int64(5), agent={"lr": [np.float32(0.5)]})
    assert (config.steps, config.agent.lr) == (5, [0.5])
    assert (type(config.steps), type(config.agent.lr[0])) == (int, float)


def test_unions_prefer_the_exact_type():
    assert make(agent={"lr": 1}).agent.lr == 1.0
    assert make(agent={"lr": [1, "1e-2"]}).agent.lr == [1.0, 0.01]
    assert make(agent={"clip": None}).agent.clip is None
    assert make(seeds=3).seeds == 3
    assert make(other={"gamma": 0.5}).other == Agent(gamma=0.5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"step": 3}, "config: unknown key 'step', did you mean 'steps'?"),
        ({"agent": {"gama": 0.9}}, "config: unknown key 'agent.gama', did you mean 'gamma'?"),
        ({"agent": {"net": {"q": 1}}}, "config: unknown key 'agent.net.q'; one of hidden, norm"),
        ({"agent": 3}, "config: agent = 3: expected a mapping of settings"),
        ({"agent": None}, "config: agent = null: expected a mapping of settings"),
        ({"steps": True}, "config: steps = true: expected a whole number"),
        ({"steps": 1.5}, "config: steps = 1.5: expected a whole number"),
        ({"steps": "1e6"}, "config: steps = '1e6': expected a whole number (write 1000000)"),
        (
            {"seeds": 1e2},
            "config: seeds = 100.0: expected a whole number or a list of them (write 100)",
        ),
        ({"steps": 1e6}, "config: steps = 1000000.0: expected a whole number (write 1000000)"),
        ({"agent": {"gamma": True}}, "config: agent.gamma = true: expected a number"),
        ({"agent": {"gamma": "high"}}, "config: agent.gamma = 'high': expected a number"),
        ({"agent": {"gamma": "inf"}}, "config: agent.gamma = 'inf': expected a number"),
        ({"agent": {"double": 1}}, "config: agent.double = 1: expected true or false"),
        (
            {"agent": {"lr": "high"}},
            "config: agent.lr = 'high': expected a number or a list of them",
        ),
        ({"agent": {"lr": [1, "a"]}}, "config: agent.lr[1] = 'a': expected a number"),
        ({"agent": {"lr": {}}}, "config: agent.lr = {}: expected a number or a list of them"),
        ({"agent": {"clip": "no"}}, "config: agent.clip = 'no': expected a number or null"),
        ({"agent": {"scales": {"a": "b"}}}, "config: agent.scales.a = 'b': expected a number"),
        (
            {"agent": {"scales": {1: 2}}},
            "config: agent.scales: found the key 1, expected keys to be text",
        ),
        ({"agent": {"scales": 1}}, "config: agent.scales = 1: expected a mapping"),
        (
            {"agent": {"net": {"norm": "layr"}}},
            "config: agent.net.norm = 'layr': expected one of 'layer', 'none', did you mean 'layer'?",
        ),
        (
            {"agent": {"net": {"norm": 3}}},
            "config: agent.net.norm = 3: expected one of 'layer', 'none'",
        ),
        (
            {"agent": {"net": {"hidden": 64}}},
            "config: agent.net.hidden = 64: expected a list of whole numbers",
        ),
        (
            {"agent": {"net": {"hidden": [6.5]}}},
            "config: agent.net.hidden[0] = 6.5: expected a whole number",
        ),
        ({"box": [1]}, "config: box = [1]: expected a list of 2 values"),
        ({"names": "a"}, "config: names = 'a': expected a list of texts"),
        ({"names": [1]}, "config: names[0] = 1: expected text"),
        ({"data": 3}, "config: data = 3: expected text"),
        ({"file": 3}, "config: file = 3: expected a path or null"),
        ({"other": {"gama": 1}}, "config: unknown key 'other.gama', did you mean 'gamma'?"),
        ({"agent": {"gamma": 1}}, "config: agent.gamma = 1.0: expected a number in [0, 1)"),
        ({"agent": {"lr": [0.1, 0]}}, "config: agent.lr[1] = 0.0: expected a number > 0"),
    ],
)
def test_build_errors(values, expected):
    assert message(make, **values) == expected


def test_build_errors_of_the_whole():
    assert message(build, Config, {}, where="a.yaml") == "a.yaml: data: missing, expected text"
    assert message(build, Config, [1]) == "config: top level = [1]: expected a mapping of settings"


@dataclass
class Odd:
    a: int = 1
    b: set = field(default_factory=set)  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        if self.a == 2:
            raise InputError("a and b: expected them to differ")


@dataclass
class Outer:
    odd: Odd = field(default_factory=Odd)


def test_an_error_that_does_not_begin_with_a_key_is_put_under_its_section():
    assert message(build, Odd, {"a": 2}) == "config: a and b: expected them to differ"
    assert (
        message(build, Outer, {"odd": {"a": 2}}) == "config: odd: a and b: expected them to differ"
    )


def test_an_annotation_that_is_not_supported_is_the_programmers_error():
    with pytest.raises(TypeError, match=r"b: the annotation .*set"):
        build(Odd, {"b": 1})


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
def test_check_range(value, ends, expected):
    assert message(check_range, "gamma", value, **ends) == expected


def test_check_range_accepts_the_closed_ends():
    check_range("x", [0, 1, 0.5], low=0, high=1)
    check_range("x", (np.float32(3), math.inf), low=0)


def test_nearest():
    assert nearest("gama", ["gamma", "lr"]) == ", did you mean 'gamma'?"
    assert nearest("CQL", ["cql"]) == ", did you mean 'cql'?"
    assert nearest("zzz", ["a", "b"]) == "; one of a, b"
    assert nearest("zzz", []) == ""
    assert nearest("q", map(str, range(30))).endswith("18, 19, ...")


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_read_yaml(tmp_path):
    text = "agent: {lr: 1e-4, x: -2E3, y: 1_0.5e+1}\nsteps: 1_000\nname: 1e\nbase: &b {p: 1}\nmore:\n  <<: *b\n  p: 2\n"
    assert read_yaml(write(tmp_path, text)) == {
        "agent": {"lr": 1e-4, "x": -2000.0, "y": 105.0},
        "steps": 1000,
        "name": "1e",
        "base": {"p": 1},
        "more": {"p": 2},
    }
    assert read_yaml(write(tmp_path, "")) == {}
    assert read_yaml(write(tmp_path, "# nothing yet\n")) == {}


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
    ],
)
def test_read_yaml_errors(tmp_path, text, expected):
    path = write(tmp_path, text)
    found = message(read_yaml, path)
    assert found.startswith(f"{path}: ")
    assert expected in found


def test_read_yaml_without_a_file(tmp_path):
    (tmp_path / "dqn.yaml").touch()
    assert message(read_yaml, tmp_path / "dqm.yaml").endswith(
        "no such file, did you mean 'dqn.yaml'?"
    )
    assert message(read_yaml, tmp_path / "none" / "a.yaml").endswith("no such file")
    assert "cannot be read" in message(read_yaml, tmp_path)


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
        (
            "--data @x* --b #5 --c ~/d.hdf5 --d 2024-01-01",
            {"data": "@x*", "b": "#5", "c": "~/d.hdf5", "d": "2024-01-01"},
        ),
        ("--a '1,2' --b \"3\"", {"a": "1,2", "b": "3"}),
        ("--a=x=y", {"a": "x=y"}),
        ("--names [a,b]", {"names": ["a", "b"]}),
        ("--data world?epsilon=0.1,0.5", {"data": "world?epsilon=0.1,0.5"}),
        ("--lr 1e-3,1", {"lr": [1e-3, 1]}),
        ("", {}),
    ],
)
def test_apply_overrides(line, expected):
    assert apply_overrides({}, line.split()) == expected


def test_overrides_do_not_touch_the_values_they_are_laid_over():
    values = {"agent": {"lr": 1, "regularizers": {"dr3": 0.03}}, "empty": None}
    found = apply_overrides(
        values, ["--agent.gamma", "0.5", "--agent.regularizers.l2", "1", "--empty.x", "1"]
    )
    assert found == {
        "agent": {"lr": 1, "regularizers": {"dr3": 0.03, "l2": 1}, "gamma": 0.5},
        "empty": {"x": 1},
    }
    assert values == {"agent": {"lr": 1, "regularizers": {"dr3": 0.03}}, "empty": None}


@pytest.mark.parametrize(
    ("entry", "line", "expected"),
    [
        (0.03, "--regularizers.dr3.form abs", {"coef": 0.03, "form": "abs"}),
        ([0, 0.03], "--regularizers.dr3.form abs", {"coef": [0, 0.03], "form": "abs"}),
        ({"coef": 0.03, "form": "abs"}, "--regularizers.dr3 0.1", {"coef": 0.1, "form": "abs"}),
        ({"form": "abs"}, "--regularizers.dr3 0 0.1", {"coef": [0, 0.1], "form": "abs"}),
        ({"coef": 1}, "--regularizers.dr3 {form:,x}", {"form": None, "x": None}),
        ({"coef": 1}, "--regularizers.dr3 null", None),
    ],
)
def test_a_regularizer_is_a_number_or_options(entry, line, expected):
    assert apply_overrides({"regularizers": {"dr3": entry}}, line.split()) == {
        "regularizers": {"dr3": expected}
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
        ("--lr.x 1", "--lr.x: lr = 0.1 is a plain value, expected a section to hold it"),
        (
            "--agent 1",
            "--agent: agent is a section (lr, gamma), expected a key in it, as in --agent.KEY",
        ),
    ],
)
def test_apply_overrides_errors(line, expected):
    values = {"lr": 0.1, "agent": {"lr": 1, "gamma": 2}}
    assert message(apply_overrides, values, line.split()).startswith(expected)


def test_to_dict_is_plain():
    config = make(file="x", agent={"regularizers": {"dr3": (1, Path("p"))}})
    found = to_dict(config)
    assert found["file"] == "x"
    assert found["box"] == [0.0, 1.0]
    assert found["agent"]["net"] == {"hidden": [64, 64], "norm": "none"}
    assert found["agent"]["regularizers"] == {"dr3": [1, "p"]}
    assert to_dict({"a": np.float32(0.5), "b": np.arange(2), 3: None}) == {
        "a": 0.5,
        "b": [0, 1],
        "3": None,
    }


def test_overrides_only():
    assert overrides_only(make()) == {"data": "d"}
    config = make(agent={"gamma": 0.5}, seeds=[0, 1], other={})
    assert overrides_only(config) == {
        "data": "d",
        "agent": {"gamma": 0.5},
        "seeds": [0, 1],
        "other": {},
    }


numbers = st.floats(1e-12, 1e12) | st.integers(1, 10**6).map(float)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8
) | st.sampled_from(["1e-4", "null", "true", "12", "", "a: b", "# x", "1_0e5"])
agents = st.builds(
    Agent,
    lr=numbers | st.lists(numbers, min_size=1, max_size=3),
    gamma=st.floats(0, 1, exclude_max=True),
    double=st.booleans(),
    clip=st.none() | numbers,
    regularizers=st.dictionaries(texts, numbers | st.lists(numbers) | texts, max_size=2),
    scales=st.dictionaries(texts, numbers, max_size=2),
    net=st.builds(
        Net, hidden=st.lists(st.integers()).map(tuple), norm=st.sampled_from(["layer", "none"])
    ),
)
configs = st.builds(
    Config,
    data=texts,
    agent=agents,
    steps=st.integers(),
    seeds=st.integers() | st.lists(st.integers()),
    file=st.none() | st.sampled_from([Path("a"), Path("/b c")]),
    names=st.lists(texts),
    box=st.tuples(st.floats(allow_nan=False), numbers),
    other=st.none() | agents,
)


@settings(max_examples=30, deadline=None)
@given(configs)
def test_what_is_written_is_read_back(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    for plain in (config, overrides_only(config)):
        dump_yaml(plain, path)
        assert build(Config, read_yaml(path)) == config


def test_dump_yaml_is_readable(tmp_path):
    dump_yaml({"agent": {"hidden": (64, 64), "lr": 1e-5}, "seeds": 8}, tmp_path / "a.yaml")
    assert (
        tmp_path / "a.yaml"
    ).read_text() == "agent:\n  hidden: [64, 64]\n  lr: 1.0e-05\nseeds: 8\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.yaml"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
