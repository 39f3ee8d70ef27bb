"""The page on data keeps its word: its commands run, and its tables are those of the code."""

import re
import shlex
from pathlib import Path

import pytest

from rlop.cli import main
from rlop.data.formats.keys import NAMES
from rlop.data.load import PREFIXES, SUFFIXES
from rlop.data.transforms import TRANSFORMS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text()


def test_its_commands_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    assert len(lines) >= 4
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "rlop"
        main(arguments)
    assert "300 transitions" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*PREFIXES, *SUFFIXES, *TRANSFORMS])
def test_it_names_every_source_and_transform(name):
    mention = f"`{name}:" if name in PREFIXES else f"{name}`"
    assert mention in PAGE


def test_it_lists_the_names_of_columns():
    for names in NAMES.values():
        assert ", ".join(f"`{name}`" for name in names) in PAGE
