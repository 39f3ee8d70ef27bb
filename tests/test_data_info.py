"""`rlop info`: the summary of a data set, and what looks suspicious in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlop.data import Dataset, load_dataset, normalized_score
from rlop.data.info import ROWS, chain_gap, distinct, histogram, repeated_rows, summary, suspicions
from rlop.data.transforms import scale_reward, top_returns


def make(rows=100, every=10, seed=0, terminated=True, **changes):
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((rows + 1, 3)).astype(np.float32)
    end = np.arange(rows) % every == every - 1

    made = {
        "obs": obs[:-1],
        "action": rng.uniform(-0.9, 0.9, (rows, 2)).astype(np.float32),
        "reward": rng.standard_normal(rows),
        "terminated": end & terminated,
        "truncated": end & ~np.array(terminated),
        "next_obs": obs[1:],
    }
    return Dataset.from_arrays(**{**made, **changes})


def test_nothing_suspicious():
    assert suspicions(make()) == []
    assert "suspicious" not in summary(make())


def test_summary_of_continuous_actions():
    data = make(reward=np.repeat([1.0, 0.0], 50))
    lines = summary(data).splitlines()
    assert len(lines) == 15
    assert lines[0] == (
        "arrays: 100 transitions in 10 episodes of 10.0 on average (10 to 10), quartiles 10, 10, 10"
    )
    assert lines[1] == "observations (3,) float32, continuous (2,) actions, environment None"
    assert lines[2] == "ends: 10 terminated, 0 truncated"
    assert lines[3] == "return: mean 5, 0 to 10"
    assert lines[4].split() == ["0", "to", "1.25", "█" * 30, "5"]
    assert lines[11].split() == ["8.75", "to", "10", "█" * 30, "5"]
    assert lines[12] == "reward: mean 0.5, 0 to 1, 50.0% not zero"

    bounds = zip(data.obs.min(0), data.obs.max(0))
    ranges = " ".join(f"[{low:.3g}, {high:.3g}]" for low, high in bounds)
    assert lines[13] == f"coverage: 100.0% observations distinct; ranges {ranges}"
    low, high = data.action.min(), data.action.max()
    assert lines[14].startswith(f"actions: {low:.4g} to {high:.4g}, 0.0% of the entries at")


def test_arrays_of_a_file_and_what_they_were_taken_for():
    data = replace(make(), keys={"obs": "observations", "truncated": "is_last"})
    assert summary(data).splitlines()[3] == "read: obs from observations, truncated from is_last"
    assert "read: " not in summary(make())


def test_histogram_by_hand():
    lines = histogram(np.array([0.0, 0, 0, 0, 1, 8]))
    assert [line.split()[-1] for line in lines] == ["4", "1", "0", "0", "0", "0", "0", "1"]
    assert [line.count("█") for line in lines] == [30, 8, 0, 0, 0, 0, 0, 8]
    assert len({len(line) for line in lines}) == 1

    # One of a thousand still shows a block.
    *_, last = histogram(np.array([0.0] * 1000 + [8.0]))
    assert last.count("█") == 1


def test_normalized_scores_by_name_or_environment():
    data = replace(make(), name="d4rl:hopper-medium-v2")
    score = normalized_score(data.episode_returns(), "hopper-medium-v2")
    text = f"; D4RL-normalized: mean {score.mean():.1f}, {score.min():.1f} to {score.max():.1f}"
    assert text in summary(data)
    assert text in summary(make(env_id="Hopper-v4"))
    assert "D4RL-normalized" in summary(top_returns(data, 0.5))

    # Scaled returns are no longer the environment's.
    assert "D4RL-normalized" not in summary(scale_reward(data, 2.0))
    assert "D4RL-normalized" not in summary(make(env_id="CartPole-v1"))
    assert "D4RL-normalized" not in summary(replace(make(), name="d4rl:carla-town-full-v0"))


def test_coverage():
    obs = np.zeros((100, 20), np.float32)
    obs[:, 0] = np.arange(100) % 25
    obs[:, 19] = 7.0
    text = summary(make(obs=obs, next_obs=obs))
    assert "coverage: 25.0% observations distinct; ranges [0, 24] [0, 0]" in text
    assert text.count("[0, 0]") == 11
    assert "... of 20 entries, all within [0, 24], 19 constant" in text


def test_images_and_booleans():
    for dtype, top in ((np.uint8, 200), (np.bool_, 1)):
        obs = np.zeros((100, 4, 4), dtype)
        obs[3, 2, 1] = top
        text = summary(make(obs=obs, next_obs=obs))
        assert f"2.0% observations distinct; ranges 0 to {top}" in text


def test_distinct_compares_the_first_rows_byte_by_byte():
    numbers = np.array([1.0, 2, 1, 3])
    assert distinct([numbers, np.array([True, False, True, True])]) == (0.75, 4)
    assert distinct([numbers, np.array([True, False, False, True])]) == (1.0, 4)

    # At most ROWS rows, and at most 128 MiB.
    assert distinct([np.arange(ROWS + 10) // 2]) == (0.5, ROWS)
    images = np.zeros((40, 2**22), np.uint8)
    images[31] = 1
    assert distinct([images]) == (2 / 32, 32)


def test_repeated_rows():
    once = make(100)
    rows = np.tile(np.arange(100), 2)
    twice = once.subset(rows)
    assert repeated_rows(twice) == pytest.approx(0.5)
    assert "50.0% of the rows repeat another row" in suspicions(twice)
    assert repeated_rows(once) == 0

    few = load_dataset("chain?steps=500")
    assert repeated_rows(few) == 0  # where states are few, rows repeat naturally
    assert not any("repeat" in text for text in suspicions(few))


def test_chain():
    data = make()
    assert chain_gap(data) == (0.0, 0)
    data.next_obs = data.next_obs.copy()
    data.next_obs[9] += 5  # the end of an episode may lead anywhere
    assert chain_gap(data) == (0.0, 0)

    data.next_obs[3, 1] += 0.25
    data.next_obs[42, 0] -= 0.5
    gap, rows = chain_gap(data)
    assert rows == 2
    assert gap == pytest.approx(0.5)
    doubt = "next_obs is not the next row's obs in 2 rows inside episodes, by 0.5 at most"
    assert doubt in suspicions(data)
    assert chain_gap(data.n_step(2, 0.9)) == (0.0, 0)


def test_chain_in_several_parts(monkeypatch):
    monkeypatch.setattr("rlop.data.info.BYTES", 100)
    data = make()
    data.next_obs = data.next_obs.copy()
    data.next_obs[[7, 8, 55]] += 1
    assert chain_gap(data)[1] == 3
    assert chain_gap(make()) == (0.0, 0)


def test_chain_of_bytes_does_not_wrap():
    obs = np.arange(0, 11, dtype=np.uint8).reshape(11, 1) * 20
    end = np.arange(10) == 9
    action, reward = np.zeros(10, int), np.arange(10.0)
    data = Dataset.from_arrays(obs[:-1], action, reward, end, np.zeros(10), obs[:-1])
    assert chain_gap(data) == (20.0, 9)


def test_episodes_of_one_step_have_no_gap():
    ends = np.ones(3, bool)
    data = Dataset.from_arrays(
        np.zeros((3, 2), np.float32), np.zeros(3, int), np.zeros(3), ends, ~ends, n_actions=2
    )
    assert chain_gap(data) == (0.0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": np.full(100, -1.5)}, "every reward is -1.5"),
        (
            {"terminated": False},
            "no row terminates: right only where the task has no end of its own",
        ),
        (
            {"action": np.linspace(-2, 2, 200).reshape(100, 2)},
            "50.0% of the action entries lie outside [-1, 1], up to 2: agents act within [-1, 1]",
        ),
        (
            {"action": np.sign(np.linspace(-1, 1.1, 200)).reshape(100, 2)},
            "100.0% of the action entries are on the bound",
        ),
    ],
)
def test_suspicious_things(changes, message):
    assert suspicions(make(**changes)) == [message]
    assert summary(make(**changes)).endswith(f"suspicious:\n  - {message}")


@pytest.mark.parametrize(
    ("name", "issues"),
    [
        ("d4rl:maze2d-umaze-v1", {194, 85}),
        ("d4rl:maze2d-eval-large-dense-v1", {194, 85}),
        ("d4rl:maze2d-open-v0", {85}),
        ("d4rl:bullet-maze2d-open-v0", set()),
        ("d4rl:antmaze-medium-play-v0", {77}),
        ("d4rl:antmaze-medium-play-v2", set()),
        ("d4rl:antmaze-umaze-diverse-v0", {77, 199}),
        ("d4rl:antmaze-umaze-diverse-v2+top0.5", {199}),
        ("maze2d-umaze-v1", set()),
        ("d4rl:hopper-medium-v2", set()),
    ],
)
def test_known_faults(name, issues):
    text = " ".join(suspicions(replace(make(), name=name)))
    named = {issue for issue in (77, 85, 194, 199) if f"issue {issue})" in text}
    assert named == issues


def test_one_row():
    data = make(1, every=1)
    assert "1 transitions in 1 episodes" in summary(data)
    assert suspicions(data) == []


def test_real_files_are_not_suspicious(shared_data):
    for path in sorted((shared_data / "d4rl_like").glob("*.hdf5")):
        data = load_dataset(path)
        expected = []
        if not data.terminated.any():
            expected = ["no row terminates: right only where the task has no end of its own"]
        assert suspicions(data) == expected
        assert len(summary(data).splitlines()) >= 15
