"""List the sources of data: what can be read, and how much of it is on disk."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

from rlop.data.formats import d4rl
from rlop.data.load import ENTRY_POINTS, NAMES, PREFIXES, REGISTERED, SUFFIXES


class About(NamedTuple):
    """Description of the sources with one prefix.

    Args:
        what: one line.
        origin: where the data come from.
        license: of the data, as far as their publisher states it.
        variable: environment variable that names the folder; empty for none.
        usual: folder without it; empty where files of any place are named.
    """

    what: str
    origin: str
    license: str
    variable: str = ""
    usual: str = ""


NOT_STATED = "not stated by the publisher"
OWN = "that of each file"

# Prefix -> what `rlop info` says of it. A new source adds its row.
ABOUT: dict[str, About] = {
    "d4rl": About(
        "D4RL: 155 sets of locomotion, mazes, hands, kitchen, driving; fetched when missing",
        "rail.eecs.berkeley.edu/datasets/offline_rl, after the mirrors in $RLOP_MIRRORS",
        d4rl.LICENSE,
        d4rl.FOLDER,
        str(d4rl.USUAL),
    ),
    "minari": About(
        "Minari: sets of the Farama Foundation and others",
        "hf.co/farama-minari; the package minari fetches them",
        OWN,
        "MINARI_DATASETS_PATH",
        "~/.minari/datasets",
    ),
    "dqn-replay": About(
        "DQN Replay Dataset: Atari by checkpoint; needs the variable",
        "gs://atari-replay-datasets, which refuses access since 2025",
        NOT_STATED,
        "DQN_REPLAY_DIR",
    ),
    "rlu": About(
        "RL Unplugged: the DQN Replay data of 46 Atari games by episode",
        "gs://rl_unplugged/atari_episodes_ordered",
        NOT_STATED,
        "RLU_DIR",
    ),
    "ogbench": About(
        "OGBench: mazes, manipulation, drawing; rewards of the single tasks",
        "rail.eecs.berkeley.edu/datasets/ogbench",
        NOT_STATED,
        "OGBENCH_DATASET_DIR",
        "~/.ogbench/data",
    ),
    "robomimic": About("robomimic's HDF5 files", "robomimic.github.io", OWN),
    "d3rlpy": About("replay buffers that d3rlpy has written, HDF5", "files of your own", OWN),
    "imitation": About("trajectories that imitation has saved", "files of your own", OWN),
}


def listing() -> str:
    """List every source: what it is, what is on disk, where it comes from, its license."""
    lines: list[str] = []
    for name in NAMES:
        what = "several sources with weights" if name == "mix" else "generated when it is loaded"
        lines += _entry(name, [what])

    for prefix in PREFIXES:
        lines += _entry(f"{prefix}:NAME", _details(prefix))

    endings = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
    lines += _entry(endings, ["files of your own"])
    lines += _entry("module:function", ["a function that returns a Dataset"])

    own = [*REGISTERED, *(point.name for point in entry_points(group=ENTRY_POINTS))]
    for name in dict.fromkeys(own):
        lines += _entry(name, ["registered on this machine"])
    return "\n".join(lines)


def _entry(name: str, details: list[str]) -> list[str]:
    return [name, *(f"    {line}" for line in details)]


def _details(prefix: str) -> list[str]:
    """Describe the sources with a prefix."""
    about = ABOUT.get(prefix)
    if about is None:
        return ["no description"]
    return [
        about.what,
        on_disk(about),
        f"origin: {about.origin}",
        f"license: {about.license}",
    ]


def on_disk(about: About) -> str:
    """Count the files of a source in its folder, and their bytes; downloads in progress do not."""
    named = os.environ.get(about.variable, "") or about.usual
    if not named and about.variable:
        return f"on disk: unknown, ${about.variable} is not set"
    if not named:
        return "on disk: wherever you name a file"

    files = 0
    size = 0
    folder = Path(named).expanduser()
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file() and ".part" not in path.suffixes:
                files += 1
                size += path.stat().st_size

    variable = f" (${about.variable})" if about.variable else ""
    return f"on disk: {files} files, {_bytes(size)} in {folder}{variable}"


def _bytes(size: int) -> str:
    """Write a size in the largest unit of which there is at least one."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
