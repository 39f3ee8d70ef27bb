"""Replay logs in a temporary folder, and Dopamine's index rules written down index by index."""

from __future__ import annotations

import gzip

import numpy as np
import torch

from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.files import file_name
from rlop.data.tables import make_table

NAME = "dqn-replay:Pong/1"
FRAME = (4, 5)  # height and width


def folder_of(root):
    return root / "Pong" / "1" / "replay_logs"


def about(cursor, capacity):
    """Rows that a buffer of horizon 1 calls invalid: from one before the cursor to three after."""
    return np.array([(cursor - 1 + i) % capacity for i in range(5)])


def valid_rows(terminal, add_count, invalid_range, capacity):
    """Every index that Dopamine may draw and then accepts, in the order of drawing."""
    cursor, full = add_count % capacity, add_count >= capacity
    invalid = set(invalid_range.tolist())
    lowest = cursor - capacity + 3 if full else 3

    accepted = []
    for drawn in range(lowest, cursor - 1):
        index = drawn % capacity
        too_late = not full and index >= cursor - 1
        reaches_over_an_end = any(terminal[(index - back) % capacity] for back in (1, 2, 3))
        if not too_late and not reaches_over_an_end and index not in invalid:
            accepted.append(index)
    return accepted


def stack(frames, index, capacity):
    """The four frames up to an index, oldest first."""
    return np.stack([frames[(index - back) % capacity] for back in (3, 2, 1, 0)])


def log(rng, rows, ends=0.1):
    """Random frames, actions, rewards and terminals."""
    return {
        "observation": rng.integers(1, 256, (rows, *FRAME), dtype=np.uint8),
        "action": rng.integers(0, 4, rows).astype(np.int32),
        "reward": rng.normal(size=rows).astype(np.float32),
        "terminal": (rng.random(rows) < ends).astype(np.uint8),
    }


def save(folder, suffix, columns, add_count, invalid_range):
    """Write one checkpoint as Dopamine's logger does."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {**columns, "add_count": np.array(add_count), "invalid_range": invalid_range}
    for name, array in arrays.items():
        with gzip.open(folder / file_name(name, suffix), "wb", compresslevel=1) as file:
            np.save(file, array)


def save_three(root):
    """Write three checkpoints of 400 rows as Dopamine leaves them, the cursor on the last row."""
    rng = np.random.default_rng(0)
    for suffix in range(3):
        count = 400 * (suffix + 1) - 1
        save(folder_of(root), suffix, log(rng, 400, 0.03), count, about(count % 400, 400))


def plain(data):
    """The same data set with its stacks built."""
    return Dataset(
        obs=np.asarray(data.obs),
        action=data.action,
        reward=data.reward,
        next_obs=np.asarray(data.next_obs),
        terminated=data.terminated,
        truncated=data.truncated,
        spec=data.spec,
        name=data.name,
        infos=data.infos,
        end=data.end,
    )


def same_as_dopamine(data, at, columns, rows, capacity):
    """Assert that transitions `at` of a data set are rows of a checkpoint.

    Args:
        data: unclipped.
        at: indices into the data set.
        columns: of the checkpoint, see `log`.
        rows: expected, in order.
        capacity: of the buffer.
    """
    assert data.infos["row"][at].tolist() == rows
    batch = make_table(data.columns()).gather(torch.from_numpy(at).unsqueeze(0))
    frames = columns["observation"]
    for k, row in enumerate(rows):
        assert np.array_equal(batch.obs[0, k], stack(frames, row, capacity))
        assert np.array_equal(batch.next_obs[0, k], stack(frames, (row + 1) % capacity, capacity))

    assert np.array_equal(batch.action[0], columns["action"][rows])
    assert np.array_equal(batch.reward[0], columns["reward"][rows])
    assert np.array_equal(batch.terminated[0], columns["terminal"][rows] != 0)
    assert batch.obs.dtype == torch.uint8
    assert batch.action.dtype == torch.int64
    assert batch.reward.dtype == batch.terminated.dtype == torch.float32
