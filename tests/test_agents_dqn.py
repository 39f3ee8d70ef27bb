"""DQN and discrete CQL: the loss against NumPy, targets, penalties, and messages about options."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import DQN, DiscreteCQL

from rlop.data.sampler import Table, probe_batch
from rlop.types import InputError

VARIANTS = {
    "plain": {},
    "cql": {"alpha": 0.3, "temperature": 0.5},
    "dr3": {"regularizers.dr3": 0.03},
    "slow": {"lr": 1e-4, "gamma": 0.9},
    "all": {"regularizers.dr3": 0.2, "alpha": 0.2, "projections.max_norm": 2.0},
}
SMALL = {"hidden": (16, 16), "batch_size": 8, "target_period": 3, "lr": 1e-3}


def numpy_forward(parameters, obs):
    """Features and action values of a network with two hidden layers, in float64."""
    x = obs
    for layer in ("torso.layers.0", "torso.layers.1"):
        x = np.maximum(x @ parameters[f"{layer}.weight"].T + parameters[f"{layer}.bias"], 0)
    return x, x @ parameters["head.weight"].T + parameters["head.bias"]


def numpy_loss(agent, batch, run, backup):
    """Float64 loss of one run, written from the formulas and the weights alone."""
    online = {k: v[run].detach().double().numpy() for k, v in agent.online.named_parameters()}
    lagging = {k: v[run].double().numpy() for k, v in agent.target.named_parameters()}
    value = {name: values[run] for name, values in agent.runs.values.items()}
    obs = batch.obs[run].double().numpy()
    next_obs = batch.next_obs[run].double().numpy()
    reward = batch.reward[run].double().numpy()
    alive = 1 - batch.terminated[run].double().numpy()
    action = batch.action[run].numpy()
    rows = np.arange(len(action))

    phi, q = numpy_forward(online, obs)
    next_phi, next_q = numpy_forward(online, next_obs)
    _, target_q = numpy_forward(lagging, next_obs)
    next_value = target_q.max(1) if backup == "max" else target_q[rows, next_q.argmax(1)]

    error = q[rows, action] - (reward + value["gamma"] * alive * next_value)
    huber = np.where(np.abs(error) <= 1, 0.5 * error**2, np.abs(error) - 0.5)
    temperature = value["temperature"]
    gap = temperature * np.log(np.exp(q / temperature).sum(1)) - q[rows, action]
    dots = (phi * next_phi).sum(1) * alive
    penalty = value["regularizers.dr3"] * dots.mean()
    return huber.mean() + value["alpha"] * gap.mean() + penalty


@pytest.mark.parametrize("backup", ["max", "double"])
def test_the_loss_equals_a_float64_numpy_twin(tiny, backup):
    agent = DQN(tiny.spec, seeds=[4], variants=VARIANTS, backup=backup, **SMALL)
    train_steps(agent, tiny, 5)  # so that target and online networks differ
    batch = Table(tiny.columns()).gather(torch.arange(64).expand(len(agent.runs), -1))
    losses, metrics = agent.losses(batch, {})
    for run in range(len(agent.runs)):
        expected = numpy_loss(agent, batch, run, backup)
        assert losses["q"][run].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert torch.equal(metrics["loss/total"], losses["q"])


@pytest.mark.parametrize("backup", ["max", "double", "sarsa", "behavior", "mc"])
def test_a_run_alone_equals_itself_among_others_with_every_backup(tiny, backup):
    if backup == "behavior":  # which needs observations that repeat
        tiny.obs[:] = tiny.obs[np.arange(200) % 7]
        tiny.next_obs[:] = tiny.obs[np.arange(200) % 5]
    options = {**SMALL, "backup": backup, "gamma": 0.5}
    many = DQN(tiny.spec, seeds=4, **options)
    alone = DQN(tiny.spec, seeds=[2], **options)
    train_steps(many, tiny, 50)
    train_steps(alone, tiny, 50)
    for ours, theirs in zip(many.online.parameters(), alone.online.parameters(), strict=True):
        torch.testing.assert_close(ours[2], theirs[0], rtol=1e-5, atol=1e-5)


def test_the_word_of_older_versions_for_the_behavior_backup_is_read(tiny):
    assert DQN(tiny.spec, backup="behaviour", **SMALL).config.backup == "behavior"


def test_n_step_trains_on_the_rows_of_the_data_set(tiny):
    agent = DQN(tiny.spec, n_step=2, gamma=0.9, **SMALL)
    rows, expected = agent.prepare(tiny), tiny.n_step(2, 0.9)
    np.testing.assert_array_equal(rows.reward, expected.reward)
    np.testing.assert_array_equal(rows.discount, expected.discount)
    np.testing.assert_array_equal(rows.next_obs, expected.next_obs)


def test_actions_are_counted_among_the_rows_that_the_backup_keeps(tiny):
    agent = DQN(tiny.spec, backup="sarsa", **SMALL)
    rows = agent.prepare(tiny)
    assert len(rows) < len(tiny)
    assert agent.counts.tolist() == np.bincount(rows.action, minlength=3).tolist()


def test_the_target_network_follows_its_period(tiny):
    agent = DQN(tiny.spec, **{**SMALL, "target_period": 10})
    start = [p.clone() for p in agent.target.parameters()]
    train_steps(agent, tiny, 9)
    for before, after in zip(start, agent.target.parameters(), strict=True):
        assert torch.equal(before, after)
    train_steps(agent, tiny, 10)
    for online, target in zip(agent.online.parameters(), agent.target.parameters(), strict=True):
        assert torch.equal(online, target)


def test_max_norm_holds_after_every_update_and_binds(tiny):
    radii = [0.1, float("inf")]
    agent = DQN(tiny.spec, projections={"max_norm": {"radius": radii}}, **SMALL)
    train_steps(agent, tiny, 50)
    parameters, initial = agent.main.parameters, agent.main.initial
    for name in [name for name in parameters if name.endswith("weight")]:
        bias = name.removesuffix("weight") + "bias"
        moved_weight = parameters[name] - initial[name]
        moved_bias = (parameters[bias] - initial[bias]).unsqueeze(-1)
        norms = torch.cat([moved_weight, moved_bias], -1).norm(dim=-1)

        radius = 0.1 / (moved_weight.shape[1] * moved_weight.shape[2]) ** 0.5
        assert norms[0].max().item() == pytest.approx(radius, rel=1e-3)
        assert norms[1].max().item() > 2 * radius


def test_cql_pushes_down_actions_that_the_data_lack(tiny):
    tiny.action[:] = 1
    advantages = []
    for agent in (DQN(tiny.spec, **SMALL), DiscreteCQL(tiny.spec, **{**SMALL, "alpha": 1.0})):
        train_steps(agent, tiny, 200)
        q = agent.q_values(torch.from_numpy(tiny.obs)[None])
        advantages.append((q[..., 0] - q[..., 1]).mean())
    assert advantages[1] < advantages[0] - 1


def test_dr3_lowers_the_feature_dot_product(tiny):
    agent = DQN(tiny.spec, regularizers={"dr3": [0.0, 1.0]}, **SMALL)
    train_steps(agent, tiny, 200)
    features, next_features = agent.features(probe_batch(tiny.columns(), 200, 2))
    dots = (features * next_features).sum(-1).mean(-1)
    assert dots[1] < 0.5 * dots[0]


@pytest.mark.parametrize("preset", ["dr3/paper", "dr3/dopamine", "dr3/workflow", "dr3/jaxrl2"])
def test_every_preset_of_dr3_trains(tiny, preset):
    metrics = train_steps(DQN(tiny.spec, regularizers={preset: 0.1}, **SMALL), tiny, 3)
    assert metrics[f"reg/{preset}"].item() > 0


def test_a_regularizer_may_be_a_function_of_ones_own(tiny):
    def decay(ctx):
        return sum(p.square().flatten(1).sum(1) for p in ctx.parameters.values())

    agent = DQN(tiny.spec, regularizers={"decay": {"fn": decay, "coef": [0.0, 10.0]}}, **SMALL)
    train_steps(agent, tiny, 100)
    norms = [sum(p[run].square().sum() for p in agent.online.parameters()) for run in range(2)]
    assert norms[1] < norms[0]


def test_signed_dr3_warns_once_of_features_that_can_be_negative(tiny, monkeypatch):
    monkeypatch.setattr(importlib.import_module("rlop.regularizers.dr3"), "_warned", False)
    with pytest.warns(UserWarning, match="unbounded below"):
        DQN(tiny.spec, regularizers={"dr3": 0.1}, activation="tanh", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DQN(tiny.spec, regularizers={"dr3": 0.1}, activation="tanh", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"gamma = 1\.5"),
        ({"alhpa": 0.1}, "did you mean 'alpha'"),
        ({"backup": "maxx"}, "'max'"),
        ({"batch_size": "many"}, "batch_size"),
        ({"hidden": []}, r"hidden = \[\]: expected at least one"),
        ({"seeds": 1.5}, "seeds = 1.5"),
        ({"regularizers": {"x": {"coef": 1.0, "fn": len, "typo": 3}}}, "takes no options.*typo"),
        ({"projections": {"x": {"radius": 1.0, "fn": len}}}, "projections.x.*import path"),
        ({"regularizers": {"dr33": 0.1}}, "dr3"),
        ({"regularizers": {"dr3": {"form": "abs"}}}, "coef is missing"),
        ({"regularizers": {"dr3": {"coef": 0.1, "fom": "abs"}}}, "form"),
        ({"projections": {"max_norm": 0.0}}, "radius"),
        ({"projections": {"max_norm": {"radius": 1.0, "center": "middle"}}}, "center"),
        ({"gamma": [0.9, 0.99], "n_step": 3}, "gamma differs"),
        ({"tau": 0.0}, "tau"),
        ({"variants": {"x": {"gamma": 1.5}}}, r"variants\.x.*gamma = 1\.5"),
        ({"variants": {"x": {"projections.max_norm": 0}}}, r"variants\.x.*max_norm"),
        ({"variants": {"x": {"regularizers.dr3": -1}}}, r"variants\.x.*dr3"),
        ({"variants": {"x": {"gamma": 0.5}, "y": {}}, "backup": "mc"}, "gamma differs"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_that_names_them(tiny, options, message):
    with pytest.raises(InputError, match=message) as caught:
        DQN(tiny.spec, **options)
    assert "\n" not in str(caught.value)
