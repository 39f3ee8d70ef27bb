"""Continuous CQL: its losses against NumPy, trained weights, critics, options, and learning."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers.cql import Twin
from helpers.training import first_batch, parameters_of, train_steps
from rlop.agents import CQL
from rlop.agents.cql_config import PRESETS

import rlop
from rlop.collect.collector import collect
from rlop.data.sampler import probe_batch
from rlop.losses import td
from rlop.nets import Critics, reinit_runs, reset_runs
from rlop.training.evaluate import Evaluator
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions
from rlop.types import InputError, Spec

OBS, ACT = 4, 2  # of the fixture `moves`
SMALL = {
    "hidden": (16, 16),
    "policy_hidden": (16, 16),
    "batch_size": 8,
    "action_samples": 3,
    "backup_samples": 4,
}
FAST = {"lr": 1e-2, "policy_lr": 1e-2, "entropy_lr": 0.1, "alpha_lr": 0.1}

# --- losses

CASES = {
    "defaults": {},
    "rho": {"conservative": "rho", "temperature": 0.5},
    "mean": {"backup": "mean", "entropy_loss": "exp", "entropy_coef": 0.2},
    "max_then_min": {"backup": "max_then_min", "backup_entropy": True},
    "min_then_max": {"backup": "min_then_max", "backup_entropy": True, "n_critics": 3},
    "clipped": {"clip_diff_min": 1.0, "clip_diff_max": 1.5, "temperature": 2.0},
    "one_critic": {"n_critics": 1, "hidden": (16,), "policy_hidden": (16,)},
    "cloning": {"bc_steps": 100, "log_std_affine": (0.5, -1.0), "log_std_range": (-1.2, -0.9)},
    "official": {"lagrange": "official", "gap": 3.0, "init": "small_head"},
    "corl": {"lagrange": "corl", "gap": 0.8, "init": "orthogonal"},
    "d3rlpy": {"preset": "cql/d3rlpy"},
}


@pytest.mark.parametrize("case", CASES)
def test_all_losses_equal_a_float64_numpy_twin(moves, case):
    options = {**SMALL, **FAST, "alpha": [0.7, 5.0], **CASES[case]}
    agent = CQL(moves.spec, seeds=[3], regularizers={"dr3": 0.25}, **options)
    # Target and online networks differ after training, and so do weights and their starts.
    train_steps(agent, moves, 5)
    for learner in agent.learners.values():
        learner.online.double()
    agent.target.double()

    batch, noise = first_batch(agent, moves, torch.float64)
    losses, metrics = agent.losses(batch, noise)
    assert ("multiplier" in losses) == (agent.config.lagrange != "off")
    for run in range(2):
        columns = [column[run].numpy() for column in batch[:6]]
        draws = {name: drawn[run].numpy() for name, drawn in noise.items()}
        expected = Twin(agent, run, columns, draws).losses(steps=5)

        computed = {name: loss[run] for name, loss in losses.items()}
        computed["td"] = metrics["loss/td"][run]
        computed["conservative"] = metrics["loss/conservative"][run]
        computed["dr3"] = metrics["reg/dr3"][run]
        expected["critics"] += 0.25 * expected["dr3"]
        for name, loss in computed.items():
            assert loss.dtype == torch.float64, name
            assert loss.item() == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name


def test_the_gap_is_clipped_state_by_state_before_the_mean(moves):
    """Three states with one candidate each, whose gaps lie below, between and above the clips."""
    agent = CQL(moves.spec, clip_diff_min=-1.0, clip_diff_max=1.0, **SMALL)
    candidates = torch.tensor([-2.0, 0.5, 4.0]).reshape(1, 1, 3, 1)

    diff = agent.conservative_diff(candidates, torch.zeros(1, 3, 1), torch.zeros(1, 1, 3))
    assert diff.item() == pytest.approx((-1.0 + 0.5 + 1.0) / 3)

    lower = CQL(moves.spec, clip_diff_min=-1.0, **SMALL)
    diff = lower.conservative_diff(candidates, torch.zeros(1, 3, 1), torch.zeros(1, 1, 3))
    assert diff.item() == pytest.approx((-1.0 + 0.5 + 4.0) / 3)


def test_the_gap_holds_the_logarithm_of_the_number_of_candidates():
    """At equal values and a density of 1, log 3N remains: the sum is not divided by 3N."""
    values = torch.full((1, 2, 5, 30), 0.7)
    candidates = td.importance_values(values, torch.zeros(1, 5, 30))
    gap = td.conservative_gap(candidates, values[..., 0], torch.ones(1))
    torch.testing.assert_close(gap, torch.full((1, 2, 5), math.log(30)))


def test_the_order_of_maximum_and_minimum_by_hand():
    """Two critics, one state, three actions."""
    q = torch.tensor([[[[1.0, 4.0, 2.0]], [[5.0, 0.0, 3.0]]]])
    value, action, critic = td.pessimistic_max(q, min_first=True)
    assert (value.item(), action.item(), critic.item()) == (2.0, 2, 0)
    value, action, critic = td.pessimistic_max(q, min_first=False)
    assert (value.item(), action.item(), critic.item()) == (4.0, 1, 0)


def test_losses_move_their_own_network_alone(moves):
    """The policy's loss has a gradient in the critics too, which is not used."""
    agent = CQL(moves.spec, lagrange="corl", backup_entropy=True, **SMALL)
    losses, _ = agent.losses(*first_batch(agent, moves))

    for name, loss in losses.items():
        for other, learner in agent.learners.items():
            parameters = list(learner.parameters.values())
            gradients = torch.autograd.grad(
                loss.sum(), parameters, retain_graph=True, allow_unused=True
            )
            sizes = [gradient.abs().max() for gradient in gradients if gradient is not None]
            moves_it = any(size > 0 for size in sizes)
            if other == name:
                assert moves_it, name
            elif (name, other) != ("policy", "critics"):
                assert not moves_it, (name, other)


def test_first_steps_clone_the_actions_of_the_data(moves):
    """The policy's loss depends on the data's actions in the first `bc_steps` updates only."""
    agent = CQL(moves.spec, bc_steps=3, **SMALL)
    depends = []
    for _ in range(5):
        batch, noise = first_batch(agent, moves)
        mirrored = batch._replace(action=-batch.action)
        loss = agent.losses(batch, noise)[0]["policy"]
        other_loss = agent.losses(mirrored, noise)[0]["policy"]
        depends.append(loss.item() != other_loss.item())
        agent.update(batch, noise)

    assert depends == [True, True, True, False, False]


def test_a_policy_that_is_not_finite_freezes_the_critics_of_its_run(moves):
    agent = CQL(moves.spec, seeds=2, **SMALL)
    agent.actor.head.weight.data[0] = float("nan")
    before = agent.critics.head.weight.clone()
    train_steps(agent, moves, 1)

    assert agent.active.tolist() == [False, True]
    assert torch.equal(agent.critics.head.weight[0], before[0])
    assert not torch.equal(agent.critics.head.weight[1], before[1])


def test_actions_beyond_the_bounds_are_refused_with_their_range(moves):
    agent = CQL(moves.spec, **SMALL)
    moves.action[7, 1] = 2.0
    with pytest.raises(InputError, match=r"actions from -1 to 2, expected \[-1, 1\]"):
        agent.prepare(moves)


# --- trained weights


def test_lagrange_forms_by_hand():
    """The official threshold of 5 at alpha 5 is a threshold of 1 elsewhere."""
    gap = torch.tensor([[2.0, 4.0]])
    log_weight = torch.zeros(1, requires_grad=True)
    alpha, one, five = torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor([5.0])
    official = td.lagrange_penalty(gap, log_weight, alpha, five, "official")
    assert official.tolist() == [[5.0, 15.0]]
    for form in ("corl", "d3rlpy"):
        penalty = td.lagrange_penalty(gap, log_weight, alpha, one, form)
        torch.testing.assert_close(penalty, official)

    # Its own loss raises the weight while the gap is above the threshold.
    (gradient,) = torch.autograd.grad(-official.mean(), log_weight)
    assert gradient.item() == pytest.approx(-10.0)

    # The weight is at most 1e6.
    capped = td.lagrange_penalty(gap, torch.tensor([99.0]), alpha, one, "corl")
    assert capped.tolist() == [[5e6, 15e6]]


def test_the_lagrange_weight_starts_where_its_code_starts_it(moves):
    starts = {}
    for form in td.LAGRANGES:
        agent = CQL(moves.spec, lagrange=form, **SMALL)
        starts[form] = agent.log_weight("multiplier").item()
    assert starts == {"official": 0.0, "corl": 1.0, "d3rlpy": 0.0}


def test_the_lagrange_weight_grows_while_the_gap_is_above_its_threshold(moves):
    agent = CQL(moves.spec, lagrange="official", gap=[-100.0, 100.0], **SMALL)
    train_steps(agent, moves, 3)
    below, above = agent.log_weight("multiplier")
    assert below > 0 > above


def test_the_entropy_weight_follows_its_target_and_may_be_kept(moves):
    agent = CQL(moves.spec, target_entropy=[-20.0, 20.0], **SMALL)
    train_steps(agent, moves, 3)
    assert agent.entropy_coef[0] < 1 < agent.entropy_coef[1]

    kept = CQL(moves.spec, entropy_lr=0.0, entropy_coef=0.3, **SMALL)
    train_steps(kept, moves, 3)
    assert kept.entropy_coef.item() == pytest.approx(0.3)


# --- critics


def test_critics_of_one_run_are_drawn_and_stay_apart(moves):
    agent = CQL(moves.spec, **SMALL)
    train_steps(agent, moves, 30)
    first, second = agent.critics.head.weight[0]
    assert not torch.allclose(first, second, atol=1e-3)


def test_dr3_lowers_the_dot_product_that_the_probe_measures_on_critics(moves):
    agent = CQL(moves.spec, regularizers={"dr3": [0.0, 1.0]}, **SMALL)
    loop = Loop(agent, moves, TrainOptions(steps=60, log_every=0, eval_every=0))
    for _ in range(60):
        loop.advance()

    measured = rlop.probe_agent(agent, moves)
    assert measured["rank/srank"].shape == measured["head/norm"].shape == (2,)
    assert measured["feature/dot"][1] < 0.8 * measured["feature/dot"][0]


def test_next_features_are_those_of_the_policys_action(moves):
    agent = CQL(moves.spec, seeds=2, **SMALL)
    features, next_features = agent.features(probe_batch(moves.columns(), 200, 2))
    assert features.shape == next_features.shape == (2, 2, 200, 16)
    assert agent.head_weight.shape == (2, 2, 1, 16)

    next_obs = torch.from_numpy(moves.next_obs).expand(2, -1, -1)
    expected, _ = agent.critics(next_obs, agent.act(next_obs))
    torch.testing.assert_close(next_features, expected.detach())


def test_max_norm_gives_each_neuron_of_each_critic_its_ball(moves):
    variants = {"ball": {"projections.max_norm": 0.1}}
    agent = CQL(moves.spec, seeds=2, variants=variants, **SMALL, lr=1e-3)
    train_steps(agent, moves, 60)

    parameters, initial = agent.main.parameters, agent.main.initial
    sizes = {"torso.layers.0": (16, OBS + ACT), "torso.layers.1": (16, 16), "head": (1, 16)}
    for layer, (width, fan_in) in sizes.items():
        weight = parameters[f"{layer}.weight"] - initial[f"{layer}.weight"]
        bias = parameters[f"{layer}.bias"] - initial[f"{layer}.bias"]
        norms = torch.cat([weight, bias.unsqueeze(-1)], -1).norm(dim=-1)  # [R, E, neurons]
        radius = torch.full((2, 2), 0.1 / (width * fan_in) ** 0.5)
        torch.testing.assert_close(norms.amax(-1), radius, rtol=1e-3, atol=0)


def test_regularizers_see_every_critic(moves):
    contexts = []

    def look(context):
        contexts.append(context)
        return context.features.square().mean((1, 2, 3))

    regularizers = {"own": {"fn": look, "coef": 0.1}}
    train_steps(CQL(moves.spec, seeds=3, regularizers=regularizers, **SMALL), moves, 1)

    context = contexts[0]
    assert context.features.shape == context.next_features.shape == (3, 2, 8, 16)
    assert context.next_features_target.shape == (3, 2, 8, 16)
    assert context.q.shape == (3, 2, 8)
    assert context.q_values.shape == (3, 2, 8, 9)
    assert context.target.shape == (3, 8)
    assert context.next_features.requires_grad
    assert not context.next_features_target.requires_grad


def test_orthogonal_layers_are_orthogonal_and_drawn_by_run_and_critic():
    critics = Critics(30, 2, (2, 2), (32, 32))
    reset_runs(critics, [0, 1])
    reinit_runs([(critics, "orthogonal")], [0, 1])

    weight = critics.torso.layers[1].weight.detach()
    expected = 2 * torch.eye(32).expand(2, 2, 32, 32)
    torch.testing.assert_close(weight @ weight.mT, expected, atol=1e-5, rtol=0)
    assert len(weight[..., 0, 0].unique()) == 4
    torch.testing.assert_close(critics.head.weight.norm(dim=-1), torch.full((2, 2, 1), 0.01))
    assert critics.torso.layers[0].bias.abs().max() == 0

    alone = Critics(30, 2, (1, 2), (32, 32))
    reset_runs(alone, [1])
    reinit_runs([(alone, "orthogonal")], [1])
    assert torch.equal(alone.torso.layers[1].weight[0], weight[1])


def test_small_heads_start_near_zero(moves):
    agent = CQL(moves.spec, init="small_head", **SMALL)
    bound = 0.01 * (6 / (16 + 1)) ** 0.5
    assert 0.5 * bound < agent.critics.head.weight.abs().max() <= bound
    assert agent.critics.head.bias.abs().max() == 0
    assert agent.actor.head.bias.abs().max() == 0


def test_critics_and_policy_start_from_different_numbers(moves):
    agent = CQL(moves.spec, init="small_head", **SMALL)
    critic = agent.critics.torso.layers[0].weight[0, 0].detach().flatten()[:64]
    policy = agent.actor.torso.layers[0].weight[0].detach().flatten()[:64]
    correlation = torch.corrcoef(torch.stack([critic, policy]))[0, 1]
    assert abs(correlation) < 0.5


def test_layer_norm_is_in_the_critics(moves):
    agent = CQL(moves.spec, layer_norm=True, **SMALL)
    train_steps(agent, moves, 3)
    names = {"critics.torso.norms.0.gain", "critics.torso.norms.1.shift"}
    assert names <= set(parameters_of(agent))


# --- options


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_explicit_options_win(moves, preset):
    agent = CQL(moves.spec, preset=preset, **SMALL, alpha=0.25)
    assert agent.config.alpha == 0.25
    assert agent.config.lagrange == PRESETS[preset].get("lagrange", "off")
    assert ("multiplier" in agent.learners) == (agent.config.lagrange != "off")
    for name, value in train_steps(agent, moves, 2).items():
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "cql/coral"}, "did you mean 'cql/corl'"),
        ({"backup": "max"}, "'max_then_min'"),
        ({"lagrange": True}, "'official'"),
        ({"tau": [0.1, 0.0]}, r"tau\[1\]"),
        ({"alpha": -1.0}, "alpha"),
        ({"temperature": 0.0}, "temperature"),
        ({"n_critics": 0}, "n_critics"),
        ({"action_samples": 0}, "action_samples"),
        ({"log_std_range": (2.0, -5.0)}, "log_std_range"),
        ({"clip_diff_min": 1.0, "clip_diff_max": 0.0}, "clip_diff_min"),
        ({"entropy_coef": 0.0}, "entropy_coef"),
        ({"init": "xavier"}, "'orthogonal'"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_that_names_them(moves, options, message):
    with pytest.raises(InputError, match=message) as caught:
        CQL(moves.spec, **options)
    assert "\n" not in str(caught.value)


def test_actions_that_are_no_vectors_are_refused():
    with pytest.raises(InputError, match="expected continuous actions"):
        CQL(Spec((4,), None, (2, 3)))


# --- learning


def swing_up(obs, rng):
    """Swing the pendulum up and hold it there, with seven actions in ten at random.

    Args:
        obs: cosine and sine of the angle, and its speed, `[N, 3]`.
        rng: NumPy generator.
    Returns:
        Torques in [-2, 2], `[N, 1]`.
    """
    cosine, sine, speed = obs.T
    lacking_energy = (speed**2 / 6 + 5 * (cosine - 1)).clip(-1, 1)
    swing = -2 * np.sign(speed) * lacking_energy
    hold = -(8 * np.arctan2(sine, cosine) + 2 * speed)
    torque = np.where(cosine > 0.85, hold, swing).clip(-2, 2)

    is_random = rng.random(len(obs)) < 0.7
    torque = np.where(is_random, rng.uniform(-2, 2, len(obs)), torque)
    return torque[:, None].astype(np.float32)


@pytest.mark.slow
def test_pendulum_is_learned_far_beyond_the_policy_that_made_the_data(tmp_path):
    collect("Pendulum-v1", swing_up, 10_000, tmp_path / "pendulum.hdf5", n_envs=50)
    raw = rlop.load_dataset(tmp_path / "pendulum.hdf5")
    # Returns of some -100 rather than -1000.
    data = dataclasses.replace(raw, reward=raw.reward * 0.1)
    rates = {"lr": 3e-3, "policy_lr": 3e-3, "entropy_lr": 3e-3, "tau": 0.02}
    sizes = {"hidden": (64, 64), "policy_hidden": (64, 64), "batch_size": 64, "action_samples": 4}
    agent = CQL(data.spec, gamma=0.95, alpha=1.0, **rates, **sizes)

    score = Evaluator("Pendulum-v1", agent.runs.seeds, episodes=20, spec=data.spec)
    before = score(agent)["eval/return"].item()
    rlop.train(agent, data, 2000, log_every=0, probe_every=0, progress=False)
    after = score(agent)["eval/return"].item()
    score.close()

    behavior = raw.episode_returns().mean()
    assert before < behavior < -600
    assert after > behavior + 400
