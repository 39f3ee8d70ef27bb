"""The page on data keeps its word: its commands run, and its tables are those of the code."""

import re
import shlex
from pathlib import Path

import pytest

from rlop.cli import main
from rlop.config.files import read_yaml
from rlop.config.schema import build
from rlop.data.formats.keys import NAMES
from rlop.data.load import NAMES as SOURCES
from rlop.data.load import PREFIXES, SUFFIXES
from rlop.data.sources import ABOUT
from rlop.data.transforms import TRANSFORMS
from rlop.training.options import Experiment
from rlop.training.run import data_of

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text()


def test_its_commands_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    assert len(lines) >= 4
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "rlop"
        assert main(arguments) == 0, line
    assert "300 transitions" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*PREFIXES, *SUFFIXES, *TRANSFORMS])
def test_it_names_every_source_and_transform(name):
    mention = f"`{name}:" if name in PREFIXES else f"{name}`"
    assert mention in PAGE


def test_it_lists_the_names_of_columns():
    for names in NAMES.values():
        assert ", ".join(f"`{name}`" for name in names) in PAGE


@pytest.mark.parametrize("name", SOURCES)
def test_it_names_every_generated_source(name):
    assert f"`{name}`" in PAGE or f"`{name}?" in PAGE


@pytest.mark.parametrize("prefix", PREFIXES)
def test_it_states_the_license_that_info_states(prefix):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{prefix}:")]
    assert row.endswith(f"| {ABOUT[prefix].license} |")


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_its_configurations_are_read(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    experiment = build(Experiment, read_yaml(tmp_path / "x.yaml"), where="x.yaml")
    if "gridworld?" in text:
        assert data_of(experiment).spec.changes
