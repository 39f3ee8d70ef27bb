"""`data`: seconds to load 1,000,000 transitions, and memory kept per byte of the columns.

Each way of loading in a process of its own, after one that warms the file cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rlop.data import write_hdf5
from scripts.bench.measure import show, table
from scripts.bench.problems import EPISODE

ROWS = 1_000_000
LOADERS = {
    "rlop, rows as D4RL's": """
from rlop.data import read_hdf5
d = read_hdf5(path, next_obs="shifted")""",
    "rlop, stored next_obs": """
from rlop.data import read_hdf5
d = read_hdf5(path, next_obs="stored")""",
    "plain loop": """
import h5py
keys = "observations", "actions", "rewards", "terminals", "timeouts"
with h5py.File(path) as f:
    o, a, r, t, e = (f[key][:] for key in keys)
rows = [(o[i], a[i], r[i], o[i + 1], t[i]) for i in range(len(r) - 1) if not e[i]]
d = [np.array(column) for column in zip(*rows)]
del rows""",
    "d3rlpy MDPDataset": """
import h5py, d3rlpy
keys = "observations", "actions", "rewards", "terminals", "timeouts"
with h5py.File(path) as f:
    o, a, r, t, e = (f[key][:] for key in keys)
d = d3rlpy.dataset.MDPDataset(o, a, r, t.astype(np.float32), timeouts=e.astype(np.float32))""",
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


def benchmark(rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """Loader -> seconds and memory, or why there is no number."""
    own = rows * 4 * (17 + 6 + 1 + 17) + rows * 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transitions.hdf5"
        write_transitions(path, rows)
        load_once("rlop, stored next_obs", path, own)
        found = {name: load_once(name, path, own) for name in LOADERS}
    lines = [
        [name, show(v.get("seconds")), show(v.get("of_own_size")), v.get("note", "")]
        for name, v in found.items()
    ]
    print(table(["", "seconds", "memory / own size", ""], lines), flush=True)
    return found


def load_once(name: str, path: Path, own: int) -> dict[str, Any]:
    imports = "import d3rlpy" if "d3rlpy" in name else ""
    code = MEASURE.format(load=LOADERS[name], imports=imports)
    found = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return {"note": found.stderr.strip().splitlines()[-1]}
    seconds, kept = json.loads(found.stdout.splitlines()[-1])
    return {"seconds": seconds, "of_own_size": kept / own}


def write_transitions(path: Path, rows: int) -> None:
    """Random transitions in D4RL's layout."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((rows + 1, 17), np.float32)
    arrays = {
        "observations": obs[:-1],
        "actions": rng.uniform(-1, 1, (rows, 6)).astype(np.float32),
        "rewards": rng.standard_normal(rows, np.float32),
        "next_observations": obs[1:],
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % EPISODE == EPISODE - 1,
    }
    write_hdf5(path, arrays, {})
