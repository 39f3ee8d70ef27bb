"""Small data sets, files in D4RL's layout, and D4RL's rule written as a loop."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rlop.data import Dataset

# Folders of pytest are shared by the examples of one property on purpose.
PROPERTY = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def ends_of(lengths):
    """Mark the last row of episodes of these lengths."""
    ends = np.zeros(sum(lengths), bool)
    ends[np.cumsum(lengths) - 1] = True
    return ends


def same_columns(a, b):
    """Assert that two data sets hold the same numbers."""
    for key, column in a.columns().items():
        assert np.array_equal(column, b.columns()[key]), key


def arrays(lengths, terminated, n_actions=3, seed=0, states=None):
    """Arguments of `from_arrays`: observation i is the number of row i, or one of few states."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    end = ends_of(lengths)
    over = np.zeros(rows, bool)
    over[end] = terminated

    label = np.arange(rows + 1)
    if states is not None:
        label = rng.integers(states, size=rows + 1)
    obs = np.stack([label, -label], axis=1).astype(np.float32)
    return {
        "obs": obs[:-1],
        "action": rng.integers(n_actions, size=rows),
        "reward": rng.standard_normal(rows).astype(np.float32),
        "terminated": over,
        "truncated": end & ~over,
        "next_obs": obs[1:],
    }


def make(lengths, terminated, **options):
    """A data set of `arrays` with three actions."""
    return Dataset.from_arrays(**arrays(lengths, terminated, **options), n_actions=3)


# Lengths of episodes, and whether each terminates.
EPISODES = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=8)


@st.composite
def datasets(draw):
    """Data sets of `make`."""
    lengths, terminated = zip(*draw(EPISODES))
    return make(lengths, list(terminated), seed=draw(st.integers(0, 99)))


def d4rl_arrays(rows, terminals=(), timeouts=None, seed=0, **changes):
    """Arrays under D4RL's names, with a flag set in the rows given."""
    rng = np.random.default_rng(seed)
    made = {
        "observations": rng.standard_normal((rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.standard_normal(rows).astype(np.float32),
        "terminals": np.isin(np.arange(rows), terminals),
    }
    if timeouts is not None:
        made["timeouts"] = np.isin(np.arange(rows), timeouts)
    return {**made, **changes}


def changed(made, changes):
    """Other arrays in place of some; None leaves one out."""
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def qlearning_rows(made, limit=None, keep=False):
    """D4RL's `qlearning_dataset` row by row: the rows it keeps, and whether each is a time-out."""
    rows, cut, step = [], [], 0
    for i in range(len(made["rewards"]) - 1):
        last = bool(made["timeouts"][i]) if "timeouts" in made else step + 1 == limit
        if last and not keep:
            step = 0
            continue
        if last or made["terminals"][i]:
            step = 0
        rows.append(i)
        cut.append(last)
        step += 1  # also after a reset: the next row counts as the second
    return rows, cut


def same_as_qlearning(data, made, limit=None, keep=False):
    """Assert that a data set holds exactly the transitions of `qlearning_rows`."""
    rows, cut = qlearning_rows(made, limit, keep)
    assert np.array_equal(data.obs, made["observations"][rows])
    assert np.array_equal(data.action, made["actions"][rows])
    assert np.array_equal(data.reward, made["rewards"][rows])
    assert np.array_equal(data.terminated, made["terminals"][rows])

    following = np.array(rows) + 1
    assert np.array_equal(data.next_obs, made["observations"][following])
    if keep:
        expected = np.array(cut) & ~data.terminated
        assert np.array_equal(data.truncated[:-1], expected[:-1])


def steps_of(length, terminated):
    """One-dimensional steps of reward 1; an episode ends every `length` rows."""
    rows = np.arange(3 * length)
    ends = rows % length == length - 1
    obs = np.stack([rows % length, rows % 3], axis=1).astype(np.float32)
    action = np.sin(rows)[:, None].astype(np.float32) / 2
    columns = (obs, action, np.ones(len(rows)), ends & terminated, ends & (not terminated), obs)
    return Dataset.from_arrays(*columns, name="steps")
