"""Help pages and the JSON schema: generated from the types, complete, stored as generated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import fastjsonschema
import pytest

from rlop.cli import main
from rlop.config.files import read_yaml
from rlop.config.help import function_page, options_page
from rlop.config.json_schema import SchemaWriter
from rlop.config.schema import Choice, Count, Discount, Formerly, Sweep, option, options, options_of
from rlop.training.names import agent_class, agent_names
from rlop.training.pages import configuration_schema
from rlop.training.run import Experiment

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(set(ROOT.glob("configs/*/*.yaml")) - set(ROOT.glob("configs/sweeps/*")))


@options
class Inner:
    """What stands inside."""

    width: Count = option(description="units of a layer")


@options
class Base:
    """What several share."""

    gamma: Sweep[Discount] = option(0.99, "discount factor")


@options
class Outer(Base):
    """An agent."""

    inner: Inner | None = option(None, "a section")
    kind: Annotated[str | dict[str, object], Choice({"inner": Inner})] = option("inner", "named")
    backup: Annotated[Literal["max", "behavior"], Formerly({"behaviour": "behavior"})] = "max"
    names: dict[str, list[str]] = option({}, "names of names")
    ends: tuple[float, float] = (0.0, 1.0)


def test_a_page_lists_each_option_with_default_meaning_and_type(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    page = "\n".join(options_page(Outer, "agent"))

    assert "agent: An agent." in page
    assert "agent: What several share." in page
    assert page.index("An agent.") < page.index("What several share.")
    for row in (
        "--agent.gamma 0.99 discount factor (a number in [0, 1) or a list of them)",
        "--agent.inner null a section (a mapping of settings or null)",
        "--agent.inner.width required units of a layer (a whole number >= 1)",
        "--agent.kind inner: What stands inside.",
        "--agent.kind.inner.width required units of a layer (a whole number >= 1)",
        "--agent.backup max one of 'max', 'behavior'",
    ):
        assert row in " ".join(page.split()), row


def read(source: str, *, limit: int = 3, infos: bool, **more: object) -> None:
    """Read a file.

    Args:
        source: the file.
        limit: rows at most,
            all of them if 0.
        infos: also read further columns.
    """


def test_a_page_of_a_function_takes_meanings_from_its_docstring(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    page = " ".join(" ".join(function_page(read, "data")).split())
    assert page.startswith("data: Read a file.")
    assert "--data.limit 3 rows at most, all of them if 0 (int)" in page
    assert "--data.infos required also read further columns (bool)" in page
    assert "source" not in page
    assert "more" not in page


@pytest.mark.parametrize("config", ["gridworld/demo", "adroit/pen"])
def test_help_of_a_configuration_lists_all_options_of_its_agent_and_data(config, capsys):
    path = ROOT / "configs" / f"{config}.yaml"
    assert main(["train", str(path), "--help"]) == 0
    page = capsys.readouterr().out

    agent = agent_class(read_yaml(path)["agent"]["name"])
    keys = [*options_of(Experiment), *(f"agent.{name}" for name in options_of(agent.Config))]
    keys += ["agent.layers.density", "agent.resets.every", "agent.optimizer.sgd.momentum"]
    keys += ["agent.regularizers.dr3", "transforms.scale_reward.scale", "collect.policy"]
    keys += ["data_options.size", "data_options.epsilon"] if "grid" in config else []
    keys += ["data_options.download", "data_options.infos"] if "pen" in config else []
    missing = [key for key in keys if f"--{key} " not in page]
    assert not missing


@pytest.fixture(scope="module")
def validate():
    writer = SchemaWriter()
    return fastjsonschema.compile(writer.document(writer.of_class(Outer), "outer"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"gamma": [0.5, "1e-4"], "inner": {"width": 3}, "kind": {"inner": {"width": 1}}},
        {"inner": None, "backup": "behaviour", "names": {"a": ["b"]}, "ends": [0, 1]},
    ],
)
def test_the_schema_takes_what_the_reader_takes(validate, values):
    validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"gama": 0.9},
        {"gamma": 1},
        {"gamma": []},
        {"gamma": [0.5, 2]},
        {"inner": {}},
        {"inner": {"width": 0}},
        {"kind": "iner"},
        {"kind": {"inner": {"width": 1}, "b": {}}},
        {"backup": "mean"},
        {"names": {"a": "b"}},
        {"ends": [0, 1, 2]},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(validate, values):
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate(values)


def test_the_schema_in_the_repository_is_the_generated_one(capsys):
    assert main(["train", "--schema"]) == 0
    stored = (ROOT / "configs" / "schema.json").read_text()
    assert capsys.readouterr().out == stored, "rlop train --schema > configs/schema.json"


def test_every_configuration_names_the_schema_and_follows_it():
    schema = configuration_schema()
    check = fastjsonschema.compile(schema)
    for path in CONFIGS:
        first = path.read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=../schema.json", path
        check(read_yaml(path))

    rules = schema["properties"]["agent"]["allOf"]
    described = [rule["then"]["properties"]["name"]["const"] for rule in rules]
    assert set(described) == set(agent_names())
    check({"agent": {"name": "my_agents:Mine", "anything": 1}})
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check({"agent": {"name": "CQL", "n_step": 3}})
