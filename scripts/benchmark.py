"""What loading a data set and one update cost, beside plain code and the peers that are installed.

    python scripts/benchmark.py data       # 1,000,000 transitions of 17 observations and 6 actions
    python scripts/benchmark.py update     # DQN, two hidden layers of 256, one run, one thread

Ratios count, not absolute times: machines differ and are noisy. Updates are measured in turn, A B A B, the best of many
rounds; each way of loading in a process of its own, after one that warms the file cache.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROWS, EPISODE = 1_000_000, 1000
LOADERS = {
    "rlop, rows as D4RL's": "from rlop.data import read_hdf5; d = read_hdf5(path, next_obs='shifted')",
    "rlop, stored next_obs": "from rlop.data import read_hdf5; d = read_hdf5(path, next_obs='stored')",
    "plain loop": """
import h5py
with h5py.File(path) as f:
    o, a, r, t, e = (f[k][:] for k in ("observations", "actions", "rewards", "terminals", "timeouts"))
rows = [(o[i], a[i], r[i], o[i + 1], t[i]) for i in range(len(r) - 1) if not e[i]]
d = [np.array(column) for column in zip(*rows)]
del rows""",
    "d3rlpy MDPDataset": """
import h5py, d3rlpy
with h5py.File(path) as f:
    o, a, r, t, e = (f[k][:] for k in ("observations", "actions", "rewards", "terminals", "timeouts"))
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


def data_benchmark() -> None:
    """Seconds to load and memory kept, as a multiple of the columns' own size."""
    own = ROWS * 4 * (17 + 6 + 1 + 17) + ROWS * 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.hdf5"
        write_million(path)
        print(f"{'loader':24} {'seconds':>8} {'memory / own size':>18}")
        for name, load in LOADERS.items():
            imports = "import d3rlpy" if "d3rlpy" in name else ""
            code = MEASURE.format(load=load, imports=imports)
            found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
            if found.returncode:
                print(f"{name:24} {'-':>8} {found.stderr.strip().splitlines()[-1]}")
                continue
            seconds, kept = json.loads(found.stdout.splitlines()[-1])
            print(f"{name:24} {seconds:8.2f} {kept / own:18.2f}")


def write_million(path: Path) -> None:
    """Random transitions in D4RL's layout."""
    from rlop.data import write_hdf5

    rng = np.random.default_rng(0)
    obs = rng.standard_normal((ROWS + 1, 17), np.float32)
    arrays = {
        "observations": obs[:-1],
        "actions": rng.uniform(-1, 1, (ROWS, 6)).astype(np.float32),
        "rewards": rng.standard_normal(ROWS, np.float32),
        "next_observations": obs[1:],
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(ROWS) % EPISODE == EPISODE - 1,
    }
    write_hdf5(path, arrays, {})


def plain_update(columns: dict, batch: int) -> Callable[[], object]:
    """DQN in the single-file style."""
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 5))
    target, optimizer = copy.deepcopy(net), torch.optim.Adam(net.parameters(), lr=3e-4)
    names = ("obs", "action", "reward", "next_obs", "terminated")

    def update() -> float:
        index = torch.randint(len(columns["reward"]), (batch,))
        obs, action, reward, next_obs, terminated = (columns[name][index] for name in names)
        with torch.no_grad():
            y = reward + 0.99 * (1 - terminated) * target(next_obs).amax(1)
        loss = nn.functional.smooth_l1_loss(net(obs).gather(1, action[:, None]).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return update


def our_update(data: object, batch: int, runs: int = 1, **options: object) -> Callable[[], object]:
    """The same by `rlop.agents.DQN`, with its metrics."""
    import torch
    from rlop.agents import DQN

    from rlop.data.sampler import Streams, Table

    agent = DQN(data.spec, seeds=runs, hidden=(256, 256), batch_size=batch, **options)
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, batch, len(table), agent.noise)

    def update() -> object:
        index, noise = streams.next()
        return torch.stack(tuple(agent.update(table.gather(index), noise).values()))

    return update


def update_benchmark(rounds: int = 12, count: int = 50) -> None:
    """Milliseconds of an update, and its ratio to plain PyTorch at the same batch."""
    import torch

    import rlop

    torch.set_num_threads(1)
    data = rlop.load_dataset("gridworld?observation=random&steps=10000&epsilon=0.1,0.5,1.0")
    columns = {name: torch.from_numpy(column) for name, column in data.columns().items()}
    cases = {}
    for batch in (32, 256):
        cases |= {
            f"plain PyTorch, batch {batch}": plain_update(columns, batch),
            f"rlop, batch {batch}": our_update(data, batch),
            f"rlop + DR3, batch {batch}": our_update(data, batch, regularizers={"dr3": 0.01}),
            f"rlop + max-norm, batch {batch}": our_update(data, batch, projections={"max_norm": 3.0}),
            f"rlop, 8 runs, batch {batch}": our_update(data, batch, runs=8),
        }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, update in cases.items():
            update()
            start = time.perf_counter()
            for _ in range(count):
                update()
            best[name] = min(best[name], (time.perf_counter() - start) / count * 1e3)
    for name, milliseconds in best.items():
        plain = best[f"plain PyTorch, batch {name.rsplit(' ', 1)[-1]}"]
        print(f"{name:28} {milliseconds:8.3f} ms {milliseconds / plain:8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "update"])
    {"data": data_benchmark, "update": update_benchmark}[parser.parse_args().what]()
