"""Parts of episodes, and the arrays they are packed into."""

import numpy as np
import pytest

from rlop.collect.rollout import Episode, first, interleave, last, pack


def episode(start, rows, terminated=False, truncated=False, policy=0):
    """An episode whose observations count on from `start`."""
    obs = [np.array([start + row], np.float32) for row in range(rows + 1)]
    actions = list(range(rows))
    rewards = [1.0] * rows
    return Episode(None, obs, 0, actions, rewards, terminated, truncated, policy)


@pytest.fixture
def episodes():
    return [
        episode(0, 2, terminated=True),
        episode(10, 1),
        episode(20, 3, truncated=True),
        episode(30, 0),
    ]


def test_whole_episodes_are_packed_one_after_another(episodes):
    parts = first(episodes, 99)
    arrays = pack(parts)
    assert arrays["observations"][:, 0].tolist() == [0, 1, 10, 20, 21, 22]
    assert arrays["next_observations"][:, 0].tolist() == [1, 2, 11, 21, 22, 23]
    assert arrays["actions"].tolist() == [0, 1, 0, 0, 1, 2]
    assert arrays["terminals"].tolist() == [False, True, False, False, False, False]
    assert arrays["timeouts"].tolist() == [False, False, True, False, False, True]
    assert [part.whole for part in parts] == [True, False, True]


def test_the_first_rows_cut_the_last_episode(episodes):
    parts = first(episodes, 5)
    arrays = pack(parts)
    assert arrays["timeouts"].tolist() == [False, False, True, False, True]
    assert [part.whole for part in parts] == [True, False, False]


def test_the_last_rows_cut_the_first_episode_at_its_beginning(episodes):
    parts = last(episodes, 5)
    arrays = pack(parts)
    assert arrays["observations"][:, 0].tolist() == [1, 10, 20, 21, 22]
    assert arrays["next_observations"][:, 0].tolist() == [2, 11, 21, 22, 23]
    assert arrays["terminals"].tolist() == [True, False, False, False, False]
    assert arrays["timeouts"].tolist() == [False, True, False, False, True]
    assert [part.whole for part in parts] == [False, False, True]
    assert len(last(episodes, 99)) == 3


def test_interleaving_keeps_all_parts_and_the_order_of_each_policy():
    played = [episode(10 * i, 2, terminated=True, policy=i % 2) for i in range(20)]
    parts = first(played, 40)
    mixed = interleave(parts, np.random.default_rng(0))
    assert mixed != parts
    assert sorted(id(part.episode) for part in mixed) == sorted(map(id, played))
    for number in (0, 1):
        before = [part for part in parts if part.episode.policy == number]
        after = [part for part in mixed if part.episode.policy == number]
        assert after == before
