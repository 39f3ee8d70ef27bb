"""IQL: losses and gradients against a float64 twin, expectiles, weights, policies, and options."""

import numpy as np
import pytest
import torch
from helpers.iql import Twin
from helpers.training import first_batch, train_steps
from helpers.twins import assert_twin, to_float64
from rlop.agents import IQL
from rlop.agents.iql_config import PRESETS

import rlop
from rlop.losses import td
from rlop.types import InputError, Spec

SMALL = {"hidden": (16, 16), "policy_hidden": (16,), "batch_size": 8}
FAST = {"lr": 1e-2, "policy_lr": 1e-2, "value_lr": 1e-2}

CASES = {
    "gaussian": {"log_std_range": (-0.02, 2.0)},
    "squashed": {"policy": "squashed", "n_critics": 3},
    "deterministic": {"policy": "deterministic", "max_weight": 1.1},
    "categorical": {"n_critics": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_a_float64_twin(tiny, moves, case):
    data = tiny if case == "categorical" else moves
    variants = {"mild": {}, "bold": {"expectile": 0.95, "inverse_temperature": 8.0, "gamma": 0.8}}
    options = {**SMALL, **FAST, **CASES[case], "regularizers": {"dr3": 0.25}}
    agent = IQL(data.spec, seeds=[3], variants=variants, **options)
    # Target and online networks differ after training.
    train_steps(agent, data, 5)
    to_float64(agent)

    batch, noise = first_batch(agent, data, torch.float64)
    losses, _ = agent.losses(batch, noise)
    twins = [Twin(agent, run, batch) for run in range(2)]
    assert_twin(agent, twins, losses, [twin.losses(dr3=0.25) for twin in twins])


def test_the_expectile_runs_from_the_mean_to_the_maximum():
    """Newton's steps on the loss of one value for the samples 0, 1, 2 and 5."""
    samples = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64).expand(3, 4)
    levels = torch.tensor([0.5, 0.9, 0.9999], dtype=torch.float64)
    value = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    for _ in range(50):
        (slope,) = torch.autograd.grad(
            td.expectile_loss(samples - value, levels).sum(), value, create_graph=True
        )
        (curvature,) = torch.autograd.grad(slope.sum(), value)
        value = (value - slope / curvature).detach().requires_grad_()

    # By hand at 0.9: 0.9 (5 - v) = 0.1 (3 v - 3), so v = 4.
    np.testing.assert_allclose(value.detach()[:2, 0], [2.0, 4.0], rtol=1e-12)
    assert 4.99 < value[2, 0] < 5


def test_weights_grow_with_the_advantage_up_to_their_bound(moves):
    agent = IQL(moves.spec, inverse_temperature=[0.0, 2.0], max_weight=3.0, **SMALL)
    advantage = torch.tensor([[-1.0, 0.0, 0.5, 1e9]]).expand(2, -1)
    expected = [[1.0] * 4, [np.exp(-2.0), 1.0, np.exp(1.0), 3.0]]
    np.testing.assert_allclose(agent.weight(advantage), expected, rtol=1e-6)


def test_losses_move_their_own_network_alone(moves):
    agent = IQL(moves.spec, regularizers={"dr3": 0.1}, **SMALL)
    losses, _ = agent.losses(*first_batch(agent, moves))
    for name, loss in losses.items():
        for other, learner in agent.learners.items():
            gradients = torch.autograd.grad(
                loss.sum(), list(learner.parameters.values()), retain_graph=True, allow_unused=True
            )
            moved = any(part is not None and part.abs().max() > 0 for part in gradients)
            assert moved == (other == name), (name, other)


def test_only_the_heads_of_the_datas_actions_move(tiny):
    data = tiny.subset(np.flatnonzero(tiny.action == 1))
    agent = IQL(data.spec, **SMALL)
    before = agent.critics.head.weight.detach().clone()
    train_steps(agent, data, 3)
    moved = (agent.critics.head.weight - before).abs().amax((0, 1, 3))
    assert (moved > 0).tolist() == [False, True, False]


def test_greedy_actions_fit_the_space(tiny, moves):
    obs = torch.from_numpy(moves.obs[:9]).expand(2, -1, -1)
    for policy in ("gaussian", "squashed", "deterministic"):
        action = IQL(moves.spec, seeds=2, policy=policy, **SMALL).act(obs)
        assert action.shape == (2, 9, 2)
        assert action.abs().max() < 1
    action = IQL(tiny.spec, seeds=2, **SMALL).act(obs)
    assert action.shape == (2, 9)
    assert action.dtype == torch.int64


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_critics_take_norms_layers_and_resets(tiny, moves, kind):
    data = tiny if kind == "discrete" else moves
    options = {
        "layer_norm": True,
        "layers": {"linear_stack": 2},
        "resets": {"every": 3, "kind": "shrink_and_perturb"},
    }
    agent = IQL(data.spec, seeds=2, **SMALL, **options)
    rlop.train(agent, data, 5, log_every=0, probe_every=5, progress=False)
    parameters = agent.main.parameters
    for name in ("norms.0.gain", "norms.1.shift"):
        assert any(key.endswith(name) for key in parameters), name
    assert torch.isfinite(parameters["head.weight"]).all()
    assert agent.features(first_batch(agent, data)[0])[0].shape == (2, 2, 8, 16)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_explicit_options_win(moves, preset):
    agent = IQL(moves.spec, preset=preset, **SMALL, expectile=0.6)
    assert agent.config.expectile == 0.6
    assert agent.config.log_std_range == PRESETS[preset].get("log_std_range", (-20.0, 2.0))
    for name, value in train_steps(agent, moves, 2).items():
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "iql/coral"}, "did you mean 'iql/corl'"),
        ({"expectile": 1.0}, "expectile"),
        ({"expectile": [0.7, 0.0]}, r"expectile\[1\]"),
        ({"inverse_temperature": -1.0}, "inverse_temperature"),
        ({"max_weight": 0.0}, "max_weight"),
        ({"policy": "categorical"}, "expected gaussian or squashed or deterministic"),
        ({"alpha": 1.0}, "alpha"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_that_names_them(moves, options, message):
    with pytest.raises(InputError, match=message) as caught:
        IQL(moves.spec, **options)
    assert "\n" not in str(caught.value)


def test_data_that_do_not_fit_are_refused(tiny):
    with pytest.raises(InputError, match="policy = gaussian: expected categorical"):
        IQL(tiny.spec, policy="gaussian")
    with pytest.raises(InputError, match="encoder = drq: expected"):
        IQL(Spec((4, 4, 3), 3))
    with pytest.raises(InputError, match="expected continuous actions"):
        IQL(Spec((4,), None, (2, 3)))
