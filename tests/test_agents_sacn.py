"""SAC-N and EDAC: losses and gradients against a float64 twin, the critics' diversity, options."""

import pytest
import torch
from helpers.sacn import Twin
from helpers.training import first_batch, train_steps
from helpers.twins import assert_twin, to_float64
from rlop.agents import CQL, EDAC, SACN
from rlop.agents.sacn_config import PRESETS

from rlop.regularizers import diversity
from rlop.types import InputError, Spec

SMALL = {"hidden": (16, 16), "policy_hidden": (16,), "batch_size": 8, "n_critics": 3}
FAST = {"lr": 1e-2, "policy_lr": 1e-2, "entropy_lr": 1e-2}


@pytest.mark.parametrize("options", [{}, {"layer_norm": True, "log_std_range": (-0.5, 0.1)}])
def test_losses_and_gradients_equal_a_float64_twin(moves, options):
    variants = {"plain": {}, "bold": {"eta": 3.0, "gamma": 0.8, "target_entropy": -2.0}}
    settings = {**SMALL, **FAST, "regularizers": {"dr3": 0.25}, **options}
    agent = SACN(moves.spec, seeds=[3], variants=variants, **settings)
    # Target and online networks differ after training.
    train_steps(agent, moves, 5)
    to_float64(agent)

    batch, noise = first_batch(agent, moves, torch.float64)
    losses, _ = agent.losses(batch, noise)
    twins = [Twin(agent, run, batch, noise) for run in range(2)]
    assert_twin(agent, twins, losses, [twin.losses(dr3=0.25) for twin in twins])


def test_values_and_slopes_are_those_of_the_plain_pass(moves):
    agent = EDAC(moves.spec, seeds=2, **SMALL)
    to_float64(agent)
    batch, _ = first_batch(agent, moves, torch.float64)
    features, outputs, slopes = agent.critics.with_slopes(batch.obs, batch.action)
    plain_features, plain_q = agent.critics(batch.obs, batch.action)
    torch.testing.assert_close(features, plain_features)
    torch.testing.assert_close(outputs.squeeze(-1), plain_q)

    step = torch.zeros_like(batch.action)
    step[..., 1] = 1e-6
    up, down = (agent.critics(batch.obs, batch.action + sign * step)[1] for sign in (1, -1))
    torch.testing.assert_close(slopes[..., 1], (up - down) / 2e-6, rtol=1e-4, atol=1e-7)


def test_the_diversity_term_turns_the_critics_slopes_apart(moves):
    agent = SACN(moves.spec, eta=[0.0, 100.0], **{**SMALL, **FAST})
    train_steps(agent, moves, 60)
    batch, _ = first_batch(agent, moves)
    slopes = agent.critics.with_slopes(batch.obs, batch.action)[2]
    plain, diverse = diversity(slopes).mean(-1).tolist()
    assert diverse < plain - 0.3


def test_the_option_and_the_regularizer_are_the_same_penalty(moves):
    options = {**SMALL, **FAST, "head": {"hl_gauss": {"v_min": -3.0, "v_max": 3.0}}}
    built_in = EDAC(moves.spec, eta=2.0, **options)
    added = SACN(moves.spec, regularizers={"diversity": 2.0}, **options)
    for agent in (built_in, added):
        to_float64(agent)
        batch, noise = first_batch(agent, moves, torch.float64)
        losses, metrics = agent.losses(batch, noise)
        if agent is built_in:
            expected, penalty = losses, metrics["loss/diversity"]
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(metrics["reg/diversity"], penalty, rtol=1e-12, atol=1e-12)


def test_it_is_cql_without_the_conservative_term(moves):
    """The same networks, and CQL's own target with the entropy."""
    sizes = {**SMALL, "log_std_range": (-5.0, 2.0)}
    ours = SACN(moves.spec, **sizes)
    other = CQL(moves.spec, alpha=0.0, backup_entropy=True, action_samples=1, **sizes)
    for name in ours.learners:
        other.learners[name].online.load_state_dict(ours.learners[name].online.state_dict())
    other.target.load_state_dict(ours.target.state_dict())

    batch, noise = first_batch(other, moves)
    expected = other.losses(batch, noise)[0]
    losses = ours.losses(batch, {**noise, "backup": noise["backup"][:, :, 0]})[0]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_an_agent_and_explicit_options_win(moves, preset):
    agent = SACN(moves.spec, preset=preset, **SMALL, entropy_coef=0.5)
    assert agent.config.entropy_coef == 0.5
    assert agent.config.eta == PRESETS[preset]["eta"]
    assert agent.config.n_critics == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "edac/hoper"}, "did you mean 'edac/hopper'"),
        ({"eta": -1.0}, "eta"),
        ({"eta": [0.0, 1.0], "n_critics": 1}, "n_critics = 1: expected at least 2"),
        ({"log_std_range": (2.0, -5.0)}, "log_std_range"),
        ({"alpha": 1.0}, "alpha"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_that_names_them(moves, options, message):
    with pytest.raises(InputError, match=message) as caught:
        SACN(moves.spec, **options)
    assert "\n" not in str(caught.value)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="expected continuous actions"):
        EDAC(Spec((4,), 3))
