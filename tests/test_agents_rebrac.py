"""ReBRAC and TD3+BC: losses and gradients against a float64 twin, the policy's period, options."""

import numpy as np
import pytest
import torch
from helpers.rebrac import Twin
from helpers.training import first_batch, parameters_of, train_steps
from helpers.twins import assert_twin, to_float64
from rlop.agents import TD3BC, ReBRAC
from rlop.agents.rebrac_config import PRESETS

import rlop
from rlop.types import InputError, Spec

SMALL = {"hidden": (16, 16), "policy_hidden": (16,), "batch_size": 8}
FAST = {"lr": 1e-2, "policy_lr": 1e-2}
QUIET = {"probe_every": 0, "progress": False, "compile": False}

CASES = {
    "rebrac": {"policy_noise": 0.6, "noise_clip": 0.3},
    "plain network": {"layer_norm": False, "n_critics": 3, "normalize_q": False},
    "td3bc": {"policy_q": "first", "bc_distance": "mean", "q_weight": 2.5},
    "td3bc without norms": {"policy_q": "first", "layer_norm": False},
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_a_float64_twin(moves, case):
    variants = {"mild": {}, "bold": {"policy_bc": 0.7, "critic_bc": 0.4, "gamma": 0.8}}
    options = {**SMALL, **FAST, **CASES[case], "regularizers": {"dr3": 0.25}}
    agent = ReBRAC(moves.spec, seeds=[3], variants=variants, **options)
    # Target and online networks differ after training.
    train_steps(agent, moves, 5)
    to_float64(agent)

    batch, noise = first_batch(agent, agent.prepare(moves), torch.float64)
    losses, _ = agent.losses(batch, noise)
    twins = [Twin(agent, run, batch, noise) for run in range(2)]
    assert_twin(agent, twins, losses, [twin.losses(dr3=0.25) for twin in twins])


def test_the_policy_steps_in_every_second_update_and_targets_after_it(moves):
    agent = ReBRAC(moves.spec, **SMALL, **FAST)
    moved = []
    rlop.train(agent, moves, 1, log_every=0, **QUIET)
    for step in range(2, 6):
        before = {name: p.clone() for name, p in parameters_of(agent).items()}
        target = agent.learners["policy"].target.head.weight.clone()
        again = ReBRAC(moves.spec, **SMALL, **FAST)
        rlop.train(again, moves, step, log_every=0, **QUIET)
        after = parameters_of(again)
        has_moved = {}
        for learner in ("critics", "policy"):
            name = f"{learner}.head.weight"
            has_moved[learner] = not torch.equal(after[name], before[name])
        has_moved["target"] = not torch.equal(again.learners["policy"].target.head.weight, target)
        moved.append(tuple(has_moved.values()))
        agent = again
    # Of steps 2 to 5: critics, policy, its target.
    assert moved == [(True, False, True), (True, True, False)] * 2


def test_the_policys_metrics_are_means_over_its_own_steps(moves):
    agent = ReBRAC(moves.spec, **SMALL)
    each = rlop.train(agent, moves, 8, log_every=1, **QUIET)
    together = rlop.train(ReBRAC(moves.spec, **SMALL), moves, 8, log_every=4, **QUIET)
    steps, single = each.get("loss/policy")
    assert steps.tolist() == [1, 3, 5, 7, 8][: len(steps)]
    assert each.get("loss/td")[0].tolist() == list(range(1, 9))
    for name in ("loss/policy", "grad/norm_policy"):
        single = each.get(name)[1][:4, 0]
        means = single.reshape(2, 2).mean(1)
        np.testing.assert_allclose(together.get(name)[1][:, 0], means, rtol=1e-5)


def test_launches_of_several_updates_are_those_of_single_ones(moves):
    many, single = (ReBRAC(moves.spec, seeds=2, **SMALL) for _ in range(2))
    options = {"log_every": 8, **QUIET}
    rlop.train(many, moves, 16, updates_per_launch=8, **options)
    rlop.train(single, moves, 16, updates_per_launch=1, **options)
    for name, parameter in parameters_of(many).items():
        assert torch.equal(parameters_of(single)[name], parameter), name
    odd = ReBRAC(moves.spec, policy_period=3, **SMALL)
    with pytest.raises(InputError, match=r"updates_per_launch = 4: .* of policy_period = 3"):
        rlop.train(odd, moves, 24, updates_per_launch=4, log_every=8, **QUIET)


def test_a_run_that_diverges_between_two_policy_steps_stops_its_policy_too(moves):
    agent = ReBRAC(moves.spec, **SMALL, seeds=2)
    batch, noise = first_batch(agent, agent.prepare(moves))
    reward = batch.reward.clone()
    reward[0] = torch.nan
    agent.partial_update(batch._replace(reward=reward), noise)
    before = agent.actor.head.weight.clone()
    agent.update(batch, noise)
    moved = (agent.actor.head.weight - before).abs().amax((1, 2)) > 0
    assert moved.tolist() == [False, True]


def test_a_heavy_penalty_clones_the_data(moves):
    """With the weight of Q at 0 the policy's loss is the distance alone."""
    agent = ReBRAC(moves.spec, **SMALL, q_weight=0.0, policy_bc=1.0)
    batch, noise = first_batch(agent, agent.prepare(moves))
    _, metrics = agent.losses(batch, noise)
    distance = (agent.act(batch.obs) - batch.action).square().sum(-1).mean(-1)
    torch.testing.assert_close(metrics["loss/policy"].detach(), distance)


def test_cut_rows_are_dropped_only_where_the_next_action_is_read(moves):
    cut = int((moves.truncated).sum())
    assert cut == 10
    assert len(ReBRAC(moves.spec, **SMALL).prepare(moves)) == len(moves) - cut
    assert len(TD3BC(moves.spec, **SMALL).prepare(moves)) == len(moves)


def test_values_of_zero_leave_the_policy_finite(moves):
    agent = ReBRAC(moves.spec, **SMALL, layers={"zero_head": True})
    train_steps(agent, moves, 1)
    assert agent.active.all()
    assert torch.isfinite(agent.actor.head.weight).all()


def test_td3bc_is_rebrac_with_its_preset(moves):
    first, second = TD3BC(moves.spec), ReBRAC(moves.spec, preset="td3bc/corl")
    ours = {name: value for name, value in vars(first.config).items() if name != "preset"}
    assert ours == {name: vars(second.config)[name] for name in ours}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_an_agent_and_explicit_options_win(moves, preset):
    agent = ReBRAC(moves.spec, preset=preset, **SMALL, q_weight=0.5)
    assert agent.config.q_weight == 0.5
    assert agent.config.policy_bc == PRESETS[preset]["policy_bc"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "rebrac/hoper-medium"}, "did you mean 'rebrac/hopper-medium'"),
        ({"policy_bc": -1.0}, "policy_bc"),
        ({"critic_bc": [0.1, -0.1]}, r"critic_bc\[1\]"),
        ({"noise_clip": 0.0}, "noise_clip"),
        ({"policy_period": 0}, "policy_period"),
        ({"log_std_range": (-5.0, 2.0)}, "log_std_range"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_that_names_them(moves, options, message):
    with pytest.raises(InputError, match=message) as caught:
        ReBRAC(moves.spec, **options)
    assert "\n" not in str(caught.value)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="expected continuous actions"):
        ReBRAC(Spec((4,), 3))
    with pytest.raises(InputError, match="encoder = drq: expected"):
        TD3BC(Spec((4, 4, 3), None, (2,)))
