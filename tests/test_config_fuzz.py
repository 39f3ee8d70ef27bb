"""Any value at any place of a configuration: an agent, or one line that says why not."""

from __future__ import annotations

import pytest
from helpers.training import SMALL_CONFIG
from rlop.agents import (
    BC,
    CQL,
    DQN,
    EDAC,
    IQL,
    SACN,
    TD3BC,
    DiscreteCQL,
    NeuralTD,
    ReBRAC,
)

from rlop.config.files import dump_yaml
from rlop.config.overrides import apply_overrides
from rlop.config.schema import options_of
from rlop.data import load_dataset
from rlop.training.options import Experiment
from rlop.training.run import from_args, make_agent
from rlop.types import InputError

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DATA = load_dataset(str(SMALL_CONFIG["data"]))
LISTED = (BC, CQL, DQN, DiscreteCQL, IQL, NeuralTD, ReBRAC, TD3BC, SACN, EDAC)
AGENTS = {cls.__name__: cls for cls in LISTED}
WORDS = ["", "auto", "cpu", "dr3", "max_norm", "a", "coef", "form", "lr", "true", "~", "1e3", "é"]
NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([10**30, -(10**30), 2**31, 2**63, 2**64]),
    st.floats(width=32),
    st.sampled_from([1e-300, 1e300, 0.5]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=5))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(WORDS), inner, max_size=2),
    ),
    max_leaves=5,
)
PLACES = [("agent", key) for cls in AGENTS.values() for key in options_of(cls.Config)]
PLACES += [(key,) for key in options_of(Experiment) if key not in ("agent", "resume", "fork")]
PLACES += [("agent",), ("agent", "zzz"), ("zzz",), ("variants", "a"), ("variants", "a", "lr")]
PLACES += [("agent", "regularizers", "dr3"), ("agent", "projections", "max_norm", "center")]
FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def put(values, place, value):
    """Set a nested value."""
    *sections, key = place
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[key] = value


def check_message(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


@FEW
@given(st.sampled_from(sorted(AGENTS)), st.sampled_from(PLACES), VALUES)
def test_any_value_at_any_place_of_a_file_makes_an_agent_or_one_line(
    tmp_path_factory, agent, place, value
):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    values = {**SMALL_CONFIG, "agent": {**SMALL_CONFIG["agent"], "name": agent}}
    put(values, place, value)
    dump_yaml(values, path)
    try:
        experiment, _ = from_args([str(path)])
        make_agent(experiment, DATA)
    except InputError as error:
        check_message(error)


@FEW
@given(
    st.lists(st.one_of(st.sampled_from(["--agent.lr", "--steps", "--a.b"]), st.text()), max_size=5)
)
def test_any_command_line_is_read_or_refused_in_one_line(arguments):
    try:
        apply_overrides(SMALL_CONFIG, arguments)
    except InputError as error:
        check_message(error)
