"""Which commit wrote a band last, from git."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from rlop.experiments.catalogue import WORKSHOP
from rlop.training.started import git_output

UNCOMMITTED = "0" * 40  # what `git blame` calls a line that is not committed
BAND = ("experiment", "name", "low", "high")  # keys whose change is one of the band


class Commit(NamedTuple):
    """A commit, and its day."""

    name: str  # "" for lines that are not committed
    day: str


def band_commits(path: Path = WORKSHOP) -> dict[tuple[str, str], Commit]:
    """Return (experiment, name) -> the commit that last changed the band, {} without git.

    Args:
        path: a catalogue in a checkout.
    """
    blame = git_output(path.parent, "blame", "--line-porcelain", "--", path.name)
    if blame is None:
        return {}
    commits = _commits_of_lines(blame)

    bands: dict[tuple[str, str], Commit] = {}
    for node in _measures(yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)):
        values: dict[str, str] = {}
        lines: list[int] = []
        for key, value in node.value:
            if key.value in BAND:
                values[key.value] = value.value
                # A text over several lines ends before the line of its end mark.
                lines.extend(range(key.start_mark.line, value.end_mark.line + 1))
        newest = max((commits[line] for line in lines if line < len(commits)), key=_age)
        place = (values["experiment"], values["name"])
        bands[place] = max(newest, bands.get(place, newest), key=_age)
    return bands


def _age(commit: Commit) -> tuple[bool, str]:
    """Order commits by day; what is not committed is the newest."""
    return not commit.name, commit.day


def _commits_of_lines(blame: str) -> list[Commit]:
    commits: list[Commit] = []
    name, day = "", ""
    for line in blame.split("\n"):
        if line.startswith("\t"):
            commits.append(Commit(name, day))
            continue
        word, _, rest = line.partition(" ")
        if len(word) == 40:
            name = "" if word == UNCOMMITTED else word[:9]
        elif word == "committer-time":
            day = datetime.fromtimestamp(int(rest), UTC).date().isoformat()
    return commits


def _measures(node: yaml.Node | None) -> list[yaml.MappingNode]:
    """Return the mappings below a node that are items of a list `measures`."""
    measures: list[yaml.MappingNode] = []
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            measures.extend(_measures(item))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            measures.extend(value.value if key.value == "measures" else _measures(value))
    return measures
