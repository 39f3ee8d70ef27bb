"""The tables of keys from CORL, d3rlpy and Stable-Baselines3 say what the presets set."""

import json
from dataclasses import asdict

import pytest
from helpers.pages import ROOT
from rlop.agents.cql_config import PRESETS, CQLConfig
from rlop.agents.dqn_config import DiscreteCQLConfig, DQNConfig

from rlop.config.schema import build, with_preset

PAGE = (ROOT / "docs" / "coming_from.md").read_text()


def table_of(name: str) -> dict[str, object]:
    """Return the table whose head begins with a name: our key -> the value in its last column."""
    (table,) = [part for part in PAGE.split("\n\n") if part.startswith(f"| {name} |")]
    values = {}
    for line in table.splitlines()[2:]:
        _, key, shown = line.strip("| ").split(" | ")
        values[key.strip("`").removeprefix("agent.")] = value_of(shown)
    return values


def value_of(shown: str) -> object:
    """Return a number, list, true, false or null; anything else is a word."""
    try:
        return json.loads(shown)
    except ValueError:
        return shown


@pytest.mark.parametrize(
    ("name", "preset", "rows"),
    [("CORL's `TrainConfig`", "cql/corl", 21), ("d3rlpy's `CQLConfig`", "cql/d3rlpy", 13)],
)
def test_the_values_of_a_table_are_those_of_the_preset(name, preset, rows):
    table = table_of(name)
    config = asdict(build(CQLConfig, with_preset({"preset": preset}, PRESETS)))
    assert len(table) == rows
    for key, value in table.items():
        found = config[key]
        assert (list(found) if isinstance(found, tuple) else found) == value, key


@pytest.mark.parametrize(
    ("name", "config"),
    [("d3rlpy's `DiscreteCQLConfig`", DiscreteCQLConfig), ("Stable-Baselines3's `DQN`", DQNConfig)],
)
def test_the_keys_of_the_other_tables_are_options_that_take_their_values(name, config):
    table = table_of(name)
    assert len(table) >= 5
    build(config, table)
