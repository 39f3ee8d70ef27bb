"""What agents do with a data set before they train on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.data import make, same_columns
from rlop.agents import BC, CQL, DQN, NeuralTD

from rlop.data import Dataset
from rlop.types import InputError


@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_agent_of_n_steps_trains_on_the_rows_of_n_step(n):
    data = make([4, 6, 3], [True, False, True])
    prepared = DQN(data.spec, hidden=(4,), n_step=n, gamma=0.8).prepare(data)
    same_columns(prepared, data.n_step(n, 0.8))


def with_an_action_of(size):
    data = make([4, 6], [True, False])
    action = np.zeros((len(data), 2), np.float32)
    action[3, 1] = size
    end = np.zeros(len(data))
    return Dataset.from_arrays(data.obs, action, data.reward, end, end, data.next_obs)


@pytest.mark.parametrize("agent_class", [BC, CQL])
@pytest.mark.parametrize("sign", [-1, 1])
def test_actions_may_exceed_the_unit_box_by_rounding_only(agent_class, sign):
    rounded = with_an_action_of(sign * (1 + 5e-7))
    assert np.abs(rounded.action).max() > 1
    agent = agent_class(rounded.spec, hidden=(4,))
    assert len(agent.prepare(rounded)) == len(rounded)
    with pytest.raises(InputError):
        agent.prepare(with_an_action_of(sign * 1.01))


@pytest.mark.parametrize("key", ["obs", "next_obs"])
def test_the_longest_observation_may_be_among_obs_or_the_next_ones(key):
    data = make([4, 6], [True, False])
    short = np.full((len(data), 2), 0.1, np.float32)
    columns = {"obs": short, "next_obs": short}
    columns[key] = short.copy()
    columns[key][5] = [30, 40]

    agent = NeuralTD(data.spec, width=4, bias=False)
    agent.prepare(replace(data, **columns))
    assert float(agent.state_dict()["longest"]) == pytest.approx(50)
