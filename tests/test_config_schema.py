"""Option classes: what they take, and the message for each mistake."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.config.files import dump_yaml, overrides_only, read_yaml, to_dict
from rlop.config.schema import (
    Choice,
    Count,
    Discount,
    Formerly,
    Index,
    Number,
    Positive,
    Probability,
    Share,
    Sweep,
    build,
    change,
    option,
    options,
)
from rlop.types import InputError


@options
class Net:
    """A network."""

    hidden: tuple[Count, ...] = option((64, 64), "widths")
    norm: Literal["layer", "none"] = option("none", "normalization")


@options
class Agent:
    """An agent."""

    swept: ClassVar[tuple[str, ...]] = ("lr",)

    lr: Sweep[Positive] = option(1e-3, "learning rate")
    gamma: Discount = option(0.99, "discount factor")
    double: bool = False
    clip: float | None = None
    regularizers: dict[str, Any] = option({}, "terms of the loss")
    scales: dict[str, float] = option({}, "factors")
    net: Net = option(Net(), "the network")
    head: Annotated[str | dict[str, object], Choice({"net": Net})] = option("net", "the head")
    backup: Annotated[Literal["max", "behavior"], Formerly({"behaviour": "behavior"})] = "max"

    def __post_init__(self) -> None:
        if self.double and self.clip:
            raise InputError("clip: not with double")


@options
class Config:
    """A configuration whose agent has another default than the class itself."""

    data: str = option(description="a file")
    agent: Agent = option(Agent(lr=0.5), "the agent")
    steps: int = 1000
    seeds: int | list[int] = 1
    file: Path | None = None
    names: list[str] = option([], "names")
    box: tuple[float, float] = (0.0, 1.0)
    other: Agent | None = None


def message(call: Callable[..., object], *args: object, **kwargs: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def make(**values: object) -> Config:
    return build(Config, {"data": "d", **values})


# --- what is taken ---


def test_defaults_are_kept_and_the_three_conversions_made():
    net = {"hidden": [8]}
    config = make(agent={"lr": "1e-4", "net": net}, file="a/b.hdf5", box=[1, 2], seeds=[1, 2])

    assert config.agent == Agent(lr=1e-4, net=Net(hidden=(8,)))
    assert config.file == Path("a/b.hdf5")
    assert config.box == (1.0, 2.0)
    assert [type(end) for end in config.box] == [float, float]
    assert config.seeds == [1, 2]
    assert config.steps == 1000


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1e-4", 1e-4),
        ("-1_000", -1000.0),
        (".5E+3", 500.0),
        ("2.", 2.0),
        (7, 7.0),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
    ],
)
def test_whole_numbers_numeric_text_and_numpy_numbers_become_floats(value, number):
    clip = make(agent={"clip": value}).agent.clip
    assert clip == number
    assert type(clip) is float


def test_numpy_integers_become_whole_numbers():
    steps = make(steps=np.int64(5)).steps
    assert steps == 5
    assert type(steps) is int


def test_a_union_takes_the_member_of_the_exact_type():
    assert make(agent={"lr": 1}).agent.lr == 1.0
    assert make(agent={"lr": [1, "1e-2"]}).agent.lr == [1.0, 0.01]
    assert make(agent={"clip": None}).agent.clip is None
    assert make(seeds=3).seeds == 3
    assert make(other={"gamma": 0.5}).other == Agent(gamma=0.5)


def test_instances_of_nested_classes_pass_as_they_are():
    net = Net(hidden=(3,))
    assert make(agent={"net": net}).agent.net is net


def test_the_constructor_converts_and_checks_like_build():
    assert Net(hidden=[3, 4]).hidden == (3, 4)
    assert message(Net, hidden=[0]) == "hidden[0] = 0: expected a whole number >= 1"
    assert message(Net, hiden=[1]) == "unknown key 'hiden', did you mean 'hidden'?"
    assert message(replace, Agent(), gamma=1.5) == "gamma = 1.5: expected a number in [0, 1)"


def test_change_names_the_section():
    assert change(Agent(), {"lr": 2}, "variants.a").lr == 2.0
    expected = "variants.a.gamma = 2: expected a number in [0, 1)"
    assert message(change, Agent(), {"gamma": 2}, "variants.a") == expected


def test_options_are_frozen_hashable_values_that_can_be_copied_and_pickled():
    net = Net(hidden=(3,))
    assert len({net, Net(hidden=(3,))}) == 1
    assert copy.deepcopy(net) == pickle.loads(pickle.dumps(net)) == net
    with pytest.raises(AttributeError):
        net.hidden = (4,)  # type: ignore[misc]  # that it cannot be set is what is tested


def test_mutable_defaults_are_not_shared():
    Agent().scales["a"] = 1.0
    assert Agent().scales == {}


def test_a_subclass_inherits_fields_and_checks_and_may_change_defaults():
    @options
    class Double(Agent):
        double: bool = True
        width: Count = 3

    assert Double(width=4).lr == Agent().lr
    assert message(Double, clip=1.0) == "clip: not with double"


def test_a_former_name_of_a_choice_is_read_as_the_present_one():
    assert Agent(backup="behaviour").backup == "behavior"


def test_options_added_to_a_name_on_the_command_line_are_its_options():
    agent = Agent(head={"": "net", "hidden": [3]})
    assert agent.head == {"net": {"hidden": [3]}}
    assert build(Agent, to_dict(agent)) == agent


# --- messages ---

A_NUMBER = "expected a number"
MISTAKES: list[tuple[dict[str, object], str]] = [
    # keys
    ({"step": 3}, "unknown key 'step', did you mean 'steps'?"),
    ({"agent": {"gama": 0.9}}, "unknown key 'agent.gama', did you mean 'gamma'?"),
    ({"agent": {"net": {"q": 1}}}, "unknown key 'agent.net.q'; one of hidden, norm"),
    ({"other": {"gama": 1}}, "unknown key 'other.gama', did you mean 'gamma'?"),
    # sections
    ({"agent": 3}, "agent = 3: expected a mapping of settings"),
    ({"agent": None}, "agent = null: expected a mapping of settings"),
    # whole numbers
    ({"steps": True}, "steps = true: expected a whole number"),
    ({"steps": 1.5}, "steps = 1.5: expected a whole number"),
    ({"steps": "1e6"}, "steps = '1e6': expected a whole number (write 1000000)"),
    ({"steps": 1e6}, "steps = 1000000.0: expected a whole number (write 1000000)"),
    ({"seeds": 1e2}, "seeds = 100.0: expected a whole number or a list of them (write 100)"),
    # numbers
    ({"agent": {"gamma": True}}, "agent.gamma = true: expected a number in [0, 1)"),
    ({"agent": {"gamma": "high"}}, "agent.gamma = 'high': expected a number in [0, 1)"),
    ({"agent": {"gamma": "inf"}}, "agent.gamma = 'inf': expected a number in [0, 1)"),
    ({"agent": {"gamma": 1}}, "agent.gamma = 1: expected a number in [0, 1)"),
    ({"agent": {"gamma": float("nan")}}, "agent.gamma = nan: expected a number in [0, 1)"),
    ({"agent": {"clip": "no"}}, "agent.clip = 'no': expected a number or null"),
    ({"agent": {"scales": {"a": "b"}}}, "agent.scales.a = 'b': expected a number"),
    # numbers side by side
    ({"agent": {"lr": "x"}}, "agent.lr = 'x': expected a number > 0 or a list of them"),
    ({"agent": {"lr": 0}}, "agent.lr = 0: expected a number > 0 or a list of them"),
    ({"agent": {"lr": {}}}, "agent.lr = {}: expected a number > 0 or a list of them"),
    ({"agent": {"lr": [1, "a"]}}, "agent.lr[1] = 'a': expected a number > 0"),
    ({"agent": {"lr": [0.1, 0]}}, "agent.lr[1] = 0: expected a number > 0"),
    ({"agent": {"lr": []}}, "agent.lr = []: expected at least one value"),
    # other types
    ({"agent": {"double": 1}}, "agent.double = 1: expected true or false"),
    ({"data": 3}, "data = 3: expected text"),
    ({"file": 3}, "file = 3: expected a path or null"),
    (
        {"agent": {"net": {"norm": "layr"}}},
        "agent.net.norm = 'layr': expected one of 'layer', 'none', did you mean 'layer'?",
    ),
    ({"agent": {"net": {"norm": 3}}}, "agent.net.norm = 3: expected one of 'layer', 'none'"),
    # collections
    ({"agent": {"scales": 1}}, "agent.scales = 1: expected a mapping"),
    ({"agent": {"scales": {1: 2}}}, "agent.scales: found the key 1, expected keys to be text"),
    (
        {"agent": {"net": {"hidden": 64}}},
        "agent.net.hidden = 64: expected a list of whole numbers >= 1",
    ),
    (
        {"agent": {"net": {"hidden": [6.5]}}},
        "agent.net.hidden[0] = 6.5: expected a whole number >= 1",
    ),
    ({"box": [1]}, "box = [1]: expected a list of 2 values"),
    ({"names": "a"}, "names = 'a': expected a list of texts"),
    ({"names": [1]}, "names[0] = 1: expected text"),
    # one named thing with options
    ({"agent": {"head": "nett"}}, "agent.head 'nett': unknown, did you mean 'net'?"),
    ({"agent": {"head": 3}}, "agent.head = 3: expected text or a mapping"),
    ({"agent": {"head": {"net": 3}}}, "agent.head.net = 3: expected a mapping of settings"),
    (
        {"agent": {"head": {"net": {"norm": "x"}}}},
        "agent.head.net.norm = 'x': expected one of 'layer', 'none'",
    ),
    (
        {"agent": {"head": {"net": {}, "b": {}}}},
        "agent.head = {'net': {}, 'b': {}}: expected one of them: net, "
        "as in net or {net: {option: value}}",
    ),
    # rules about several fields
    ({"agent": {"double": True, "clip": 1}}, "agent.clip: not with double"),
    # a plain value and options given to the same key, as a command line does
    (
        {"steps": {"": 3, "x": 1}},
        "--steps.x: steps = 3 is a plain value, expected a section to hold it",
    ),
    (
        {"agent": {"": 1, "lr": 1, "gamma": 0.5}},
        "--agent: agent is a section (lr, gamma), expected a key in it, as in --agent.KEY",
    ),
    (
        {"agent": {"scales": {"": 1, "a": 1}}},
        "--agent.scales: agent.scales is a section (a), expected a key in it, "
        "as in --agent.scales.KEY",
    ),
]


@pytest.mark.parametrize(("values", "expected"), MISTAKES)
def test_every_mistake_is_one_line_with_key_found_and_expected(values, expected):
    assert message(make, **values) == f"config: {expected}"


def test_the_source_and_the_section_come_first():
    assert message(build, Config, {}, "a.yaml") == "a.yaml: data: missing, expected text"
    assert message(build, Config, [1]) == "config: top level = [1]: expected a mapping of settings"
    expected = "a.yaml: agent.gamma = 2: expected a number in [0, 1)"
    assert message(build, Agent, {"gamma": 2}, "a.yaml", "agent") == expected
    assert message(build, Agent, {"gamma": 2}, "", "agent") == expected.removeprefix("a.yaml: ")


RANGES = [
    (Positive, 0, "a number > 0"),
    (Probability, 1.1, "a number in [0, 1]"),
    (Share, 0, "a number in (0, 1]"),
    (Discount, 1, "a number in [0, 1)"),
    (Count, 0, "a whole number >= 1"),
    (Index, -1, "a whole number >= 0"),
    (Number, float("nan"), "a number"),
]


@pytest.mark.parametrize(("kind", "outside", "expected"), RANGES)
def test_each_type_with_a_range_refuses_what_lies_outside(kind, outside, expected):
    @options
    class One:
        x: kind = 0.5

    One.__annotations__["x"] = kind  # a local name, which annotations as text cannot resolve
    assert message(One, x=outside) == f"x = {outside}: expected {expected}"


@dataclass
class Odd:
    a: int = 1
    b: set = field(default_factory=set)  # type: ignore[type-arg]  # an annotation that is refused

    def __post_init__(self) -> None:
        if self.a == 2:
            raise InputError("a and b: expected them to differ")


@dataclass
class Outer:
    odd: Odd = field(default_factory=Odd)


def test_an_error_that_does_not_begin_with_a_key_is_put_under_its_section():
    expected = "a and b: expected them to differ"
    assert message(build, Odd, {"a": 2}) == f"config: {expected}"
    assert message(build, Outer, {"odd": {"a": 2}}) == f"config: odd: {expected}"


def test_an_annotation_that_is_not_supported_is_the_programmers_error():
    with pytest.raises(TypeError, match=r"b: the annotation .*set"):
        build(Odd, {"b": 1})


# --- from values to text and back ---

numbers = st.floats(1e-12, 1e12) | st.integers(1, 10**6).map(float)
tricky = st.sampled_from(["1e-4", "null", "true", "12", "", "a: b", "# x", "1_0e5"])
texts = tricky | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
agents = st.builds(
    Agent,
    lr=numbers | st.lists(numbers, min_size=1, max_size=3),
    gamma=st.floats(0, 1, exclude_max=True),
    clip=st.none() | numbers,
    regularizers=st.dictionaries(texts.filter(bool), numbers | texts, max_size=2),
    scales=st.dictionaries(texts.filter(bool), numbers, max_size=2),
    net=st.builds(
        Net, hidden=st.lists(st.integers(1, 2**63 - 1)), norm=st.sampled_from(["layer", "none"])
    ),
)
configs = st.builds(
    Config,
    data=texts,
    agent=agents,
    steps=st.integers(-(2**63) + 1, 2**63 - 1),
    seeds=st.integers(-(2**63) + 1, 2**63 - 1) | st.lists(st.integers(-(2**63) + 1, 2**63 - 1)),
    file=st.none() | st.sampled_from([Path("a"), Path("/b c")]),
    names=st.lists(texts),
    box=st.tuples(st.floats(allow_nan=False), numbers),
    other=st.none() | agents,
)


@settings(max_examples=25, deadline=None)
@given(configs)
def test_what_is_written_is_read_back(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    for plain in (config, overrides_only(config)):
        dump_yaml(plain, path)
        assert build(Config, read_yaml(path)) == config


def test_to_dict_leaves_plain_values_only():
    config = make(file="x", agent={"regularizers": {"dr3": (1, Path("p"))}})
    plain = to_dict(config)

    assert plain["file"] == "x"
    assert plain["box"] == [0.0, 1.0]
    assert plain["agent"]["net"] == {"hidden": [64, 64], "norm": "none"}
    assert plain["agent"]["regularizers"] == {"dr3": [1, "p"]}

    arrays = {"a": np.float32(0.5), "b": np.arange(2), 3: None}
    assert to_dict(arrays) == {"a": 0.5, "b": [0, 1], "3": None}


def test_overrides_only_leaves_defaults_out():
    assert overrides_only(make()) == {"data": "d"}

    config = make(agent={"gamma": 0.5}, seeds=[0, 1], other={})
    # A section that is given starts from the defaults of its class, not from those of the whole.
    assert overrides_only(config) == {
        "data": "d",
        "agent": {"gamma": 0.5},
        "seeds": [0, 1],
        "other": {},
    }
