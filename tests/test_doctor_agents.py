"""Every agent can be diagnosed, and is not changed by it."""

import pytest
import torch
from helpers.agents import ROWS
from helpers.training import parameters_of, train_steps

import rlop
from rlop.doctor.rules import UNMEASURED


@pytest.mark.parametrize("name", ROWS)
def test_every_agent_is_diagnosed_run_by_run_and_left_as_it_was(name, tiny, moves):
    row = ROWS[name]
    data = moves if row.continuous else tiny
    agent = row.make(data, seeds=2)
    train_steps(agent, data, 3)
    before = {key: parameter.clone() for key, parameter in parameters_of(agent).items()}

    found = rlop.diagnose(agent, data, refit_steps=2)
    assert [diagnosis.label for diagnosis in found] == list(agent.runs.labels)
    for diagnosis in found:
        levels = {finding.disease: finding.level for finding in diagnosis.findings}
        assert levels["rank collapse"] != UNMEASURED
        assert levels["divergence"] == "ok"
        has_values = agent.main.target is not None
        assert (levels["lost plasticity"] != UNMEASURED) == has_values
    for key, parameter in parameters_of(agent).items():
        assert torch.equal(parameter, before[key]), key


def test_a_run_alone_measures_as_among_others(tiny):
    row = ROWS["DQN"]
    both = row.make(tiny, seeds=[3, 4])
    alone = row.make(tiny, seeds=[4])
    for agent in (both, alone):
        train_steps(agent, tiny, 5)
    _, second = rlop.diagnose(both, tiny, refit_steps=3)
    (expected,) = rlop.diagnose(alone, tiny, refit_steps=3)
    assert second.measured.keys() == expected.measured.keys()
    for name, value in expected.measured.items():
        assert second.measured[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
