"""`data`: seconds to load 1,000,000 transitions, and memory kept, relative to the columns' size.

Each way of loading has its own process, after one that warms the file cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypedDict

import numpy as np

from rlop.data import write_hdf5
from scripts.bench.measure import show, table
from scripts.bench.problems import EPISODE

ROWS = 1_000_000
OBS = 17
ACTIONS = 6

READ_COLUMNS = """
import h5py
keys = ("observations", "actions", "rewards", "terminals", "timeouts")
with h5py.File(path) as f:
    o, a, r, t, e = (f[k][:] for k in keys)
"""
LOADERS = {  # name -> code that loads `path` into `d`
    "rlop, rows as D4RL's": """
from rlop.data import read_hdf5
d = read_hdf5(path, next_obs="shifted")
""",
    "rlop, stored next_obs": """
from rlop.data import read_hdf5
d = read_hdf5(path, next_obs="stored")
""",
    "plain loop": READ_COLUMNS
    + """
rows = [(o[i], a[i], r[i], o[i + 1], t[i]) for i in range(len(r) - 1) if not e[i]]
d = [np.array(column) for column in zip(*rows)]
del rows
""",
    "d3rlpy MDPDataset": READ_COLUMNS
    + """
import d3rlpy
d = d3rlpy.dataset.MDPDataset(o, a, r, t.astype(np.float32), timeouts=e.astype(np.float32))
""",
}
MEASURE = """
import json, resource, sys, time
import numpy as np
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()
path = sys.argv[1]
import h5py, rlop.data
{imports}
before, start = resident(), time.perf_counter()
{load}
print(json.dumps([time.perf_counter() - start, resident() - before]))
"""


class Load(TypedDict, total=False):
    """Cost of one way of loading; without numbers where the note says why."""

    seconds: float
    of_own_size: float  # memory kept, over the size of the columns
    note: str


def benchmark(rows: int = ROWS) -> dict[str, Load]:
    """Measure every way of loading."""
    # Five float32 columns and two of one byte.
    size = rows * 4 * (OBS + ACTIONS + 1 + OBS) + rows * 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transitions.hdf5"
        write_transitions(path, rows)
        load_once("rlop, stored next_obs", path, size)  # warms the file cache
        loads = {name: load_once(name, path, size) for name in LOADERS}

    lines = []
    for name, load in loads.items():
        seconds, memory = show(load.get("seconds")), show(load.get("of_own_size"))
        lines.append([name, seconds, memory, load.get("note", "")])

    print(table(["", "seconds", "memory / own size", ""], lines), flush=True)
    return loads


def load_once(name: str, path: Path, size: int) -> Load:
    """Load a file in a fresh process.

    Args:
        name: the way of loading, a key of `LOADERS`.
        path: path of the file.
        size: bytes of its columns.
    """
    imports = "import d3rlpy" if "d3rlpy" in name else ""  # not counted as loading
    code = MEASURE.format(load=LOADERS[name], imports=imports)
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"note": done.stderr.strip().splitlines()[-1]}
    seconds, kept = json.loads(done.stdout.splitlines()[-1])

    return {"seconds": seconds, "of_own_size": kept / size}


def write_transitions(path: Path, rows: int) -> None:
    """Write random transitions in D4RL's layout."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((rows + 1, OBS), np.float32)
    columns = {
        "observations": obs[:-1],
        "actions": rng.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        "rewards": rng.standard_normal(rows, np.float32),
        "next_observations": obs[1:],
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % EPISODE == EPISODE - 1,
    }
    write_hdf5(path, columns, {})
