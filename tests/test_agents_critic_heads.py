"""Distributional critics of continuous agents: a float64 NumPy twin, backups, options."""

import math

import numpy as np
import pytest
import torch
from helpers.training import first_batch, train_steps
from helpers.twins import to_float64
from rlop.agents import CQL, EDAC, IQL, SACN, ReBRAC
from rlop.agents.critic_heads import CRITIC_HEADS, make_critic_head

from rlop.losses import td
from rlop.types import InputError

SMALL = {"hidden": (16, 16), "policy_hidden": (16,), "batch_size": 8, "n_critics": 3}
FAST = {"lr": 1e-2, "policy_lr": 1e-2}
HEADS = {
    "quantile": {"quantile": {"n": 5}},
    "hl_gauss": {"hl_gauss": {"n": 9, "v_min": -4.0, "v_max": 3.0, "sigma": 0.6}},
}
every_head = pytest.mark.parametrize("name", HEADS)


# --- loss and gradient against NumPy


def quantile_values(z):
    return z.mean(-1)


def quantile_loss(z, target):
    """Return loss and gradient of quantiles `[B, K]` against particles `[B, J]`, in loops."""
    (rows, count), particles = z.shape, target.shape[1]
    loss, slope = 0.0, np.zeros_like(z)
    for b in range(rows):
        for i in range(count):
            for j in range(particles):
                u = target[b, j] - z[b, i]
                weight = abs((i + 0.5) / count - (u < 0)) / particles / rows
                huber = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                loss += weight * huber
                slope[b, i] -= weight * np.clip(u, -1, 1)
    return loss, slope


def edges():
    options = HEADS["hl_gauss"]["hl_gauss"]
    return np.linspace(options["v_min"], options["v_max"], options["n"] + 1)


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def hl_gauss_values(z):
    return softmax(z) @ (edges()[1:] + edges()[:-1]) * 0.5


def hl_gauss_loss(z, target):
    """Return loss and gradient of logits `[B, n]` against a single target `[B]`."""
    width = edges()[1] - edges()[0]
    scale = 0.6 * width * math.sqrt(2)
    center = np.clip(target, edges()[0], edges()[-1])[:, None]
    cdf = np.vectorize(math.erf)((edges() - center) / scale)
    share = np.diff(cdf, axis=1) / (cdf[:, -1:] - cdf[:, :1])
    loss = -(share * np.log(softmax(z))).sum(-1).mean()
    return loss, (softmax(z) - share) / len(z)


TWINS = {"quantile": (quantile_values, quantile_loss), "hl_gauss": (hl_gauss_values, hl_gauss_loss)}


def numbers_of(network, run):
    return {name: p[run].detach().numpy() for name, p in network.named_parameters()}


def critic_layers(parameters, critic, x):
    """Return the activations of every layer, the outputs last."""
    layers = [x]
    for layer in ("torso.layers.0", "torso.layers.1", "head"):
        x = (
            layers[-1] @ parameters[f"{layer}.weight"][critic].T
            + parameters[f"{layer}.bias"][critic]
        )
        layers.append(x if layer == "head" else np.maximum(x, 0))
    return layers


def critic_slopes(parameters, critic, layers, slope):
    """Return the gradient of every parameter of one critic, from that of its outputs."""
    slopes = {}
    for layer, x in zip(("head", "torso.layers.1", "torso.layers.0"), layers[-2::-1]):
        slopes[f"{layer}.weight"], slopes[f"{layer}.bias"] = slope.T @ x, slope.sum(0)
        slope = slope @ parameters[f"{layer}.weight"][critic] * (x > 0)
    return slopes


@every_head
def test_loss_and_gradient_equal_a_float64_numpy_twin(moves, name):
    """ReBRAC's critics, whose target also has a distance subtracted."""
    values_of, loss_of = TWINS[name]
    variants = {"plain": {}, "bold": {"gamma": 0.7, "critic_bc": 0.5}}
    settings = {**SMALL, **FAST, "layer_norm": False, "head": HEADS[name]}
    agent = ReBRAC(moves.spec, seeds=[3], variants=variants, **settings)
    train_steps(agent, moves, 6)  # so that the target networks differ
    to_float64(agent)
    batch, noise = first_batch(agent, agent.prepare(moves), torch.float64)
    next_action = batch.extra["next_action"].double()
    losses, metrics = agent.losses(batch._replace(extra={"next_action": next_action}), noise)
    online = agent.learners["critics"].parameters
    gradients = torch.autograd.grad(losses["critics"].sum(), list(online.values()))

    for run in range(2):
        values = {key: numbers[run].item() for key, numbers in agent.hyper.items()}
        parameters, target = numbers_of(agent.critics, run), numbers_of(agent.target, run)
        action, reward, ended = (
            column[run].numpy() for column in (batch.action, batch.reward, batch.terminated)
        )
        obs, next_obs = batch.obs[run].numpy(), batch.next_obs[run].numpy()

        there = agent.learners["policy"].target(batch.next_obs)[1][run].detach().tanh().numpy()
        shift = np.clip(values["policy_noise"] * noise["action"][run].numpy(), -0.5, 0.5)
        there = np.clip(there + shift, -1, 1)
        pair = np.concatenate([next_obs, there], 1)
        outputs = np.stack([critic_layers(target, e, pair)[-1] for e in range(3)])
        lowest = values_of(outputs).argmin(0)
        picked = outputs[lowest, np.arange(len(lowest))]  # [B, K]
        particles = picked if name == "quantile" else values_of(picked)[:, None]
        distance = ((there - next_action[run].numpy()) ** 2).sum(-1)
        kept = values["gamma"] * (1 - ended)[:, None]
        particles = reward[:, None] + kept * (particles - values["critic_bc"] * distance[:, None])
        if name == "hl_gauss":
            particles = particles[:, 0]

        total, pair = 0.0, np.concatenate([obs, action], 1)
        for critic in range(3):
            layers = critic_layers(parameters, critic, pair)
            loss, slope = loss_of(layers[-1], particles)
            total += loss
            expected = critic_slopes(parameters, critic, layers, slope)
            for (key, _), gradient in zip(online.items(), gradients, strict=True):
                ours = gradient[run, critic].numpy()
                np.testing.assert_allclose(ours, expected[key], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(losses["critics"][run].item(), total, rtol=1e-9)
        q = np.mean([values_of(critic_layers(parameters, e, pair)[-1]) for e in range(3)])
        np.testing.assert_allclose(metrics["q/data"][run].item(), q, rtol=1e-9)


# --- targets and the policy's objective: expected values


def expected_target(agent, batch, value):
    return td.td_target(batch.reward, value, batch.terminated, batch.discount, agent.hyper["gamma"])


@every_head
def test_the_target_of_a_soft_critic_has_the_lowest_expected_value(moves, name):
    agent = SACN(moves.spec, seeds=2, head=HEADS[name], **SMALL)
    to_float64(agent)
    batch, noise = first_batch(agent, moves, torch.float64)
    next_action, particles = agent.backup(batch, noise)

    _, q = agent.target(batch.next_obs, next_action)
    mean, log_std = agent.actor(batch.next_obs)
    normal = torch.distributions.Normal(mean, log_std.exp())
    density = normal.log_prob(next_action.atanh()) - torch.log(1 - next_action**2)
    value = q.amin(1) - agent.entropy_coef[:, None] * density.sum(-1)
    target = agent.head.target(particles)
    torch.testing.assert_close(target, expected_target(agent, batch, value))


@every_head
@pytest.mark.parametrize("backup", ["sample", "mean", "max_then_min", "min_then_max"])
def test_every_backup_of_cql_compares_expected_values(moves, name, backup):
    options = {"backup": backup, "backup_samples": 4, "head": HEADS[name]}
    agent = CQL(moves.spec, seeds=2, **options, **SMALL)
    to_float64(agent)
    batch, noise = first_batch(agent, moves, torch.float64)
    pi = agent.actor(batch.next_obs)
    action, particles = agent.backup(batch, noise, pi)

    unit = noise.get("backup", torch.zeros_like(pi[0]).unsqueeze(2))
    actions = torch.tanh(pi[0].unsqueeze(2) + pi[1].exp().unsqueeze(2) * unit)
    values = agent.target.values(batch.next_obs, actions)
    value = values.amax(-1).amin(1) if backup == "max_then_min" else values.amin(1).amax(-1)
    torch.testing.assert_close(agent.head.target(particles), expected_target(agent, batch, value))
    assert (actions == action.unsqueeze(2)).all(-1).any(2).all()


@every_head
def test_iql_regresses_on_a_single_number(moves, name):
    agent = IQL(moves.spec, seeds=2, head=HEADS[name], **SMALL)
    batch, noise = first_batch(agent, moves)
    metrics = agent.losses(batch, noise)[1]
    with torch.no_grad():
        target = expected_target(agent, batch, agent.value(batch.next_obs))
    torch.testing.assert_close(metrics["q/target"], target.mean(-1))


@every_head
def test_values_and_slopes_are_those_of_the_mean(moves, name):
    agent = EDAC(moves.spec, seeds=2, head=HEADS[name], **SMALL)
    to_float64(agent)
    batch, _ = first_batch(agent, moves, torch.float64)
    _, z, slopes = agent.critics.with_slopes(batch.obs, batch.action)
    q = agent.critics(batch.obs, batch.action)[1]
    torch.testing.assert_close(q, agent.head.mean(z))
    candidates = torch.stack([batch.action, -batch.action], dim=2)
    torch.testing.assert_close(agent.critics.values(batch.obs, candidates)[..., 0], q)

    step = torch.zeros_like(batch.action)
    step[..., 1] = 1e-6
    up, down = (agent.critics(batch.obs, batch.action + sign * step)[1] for sign in (1, -1))
    torch.testing.assert_close(slopes[..., 1], (up - down) / 2e-6, rtol=1e-4, atol=1e-7)


# --- options


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (CQL, {"head": "rem"}, "head.*'rem'"),
        (CQL, {"head": {"quantile": {"n": 0}}}, "n = 0"),
        (SACN, {"head": {"hl_gauss": {"v_min": 2.0, "v_max": 2.0}}}, "v_min < v_max"),
        (EDAC, {"head": "quantile", "target_noise": {"scale": 0.1}}, "not with head quantile"),
        (IQL, {"head": "hl_gauss", "optimizer": {"rmd": {"lam": 1}}}, "rmd: not with head hl_g"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_sentence(moves, make, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make(moves.spec, **options)
    assert "\n" not in str(caught.value)


def test_discrete_iql_has_one_value_for_each_action(tiny):
    with pytest.raises(InputError, match="head = quantile: expected scalar for discrete actions"):
        IQL(tiny.spec, head="quantile")


def test_published_sizes():
    sizes = {name: make_critic_head(name).n for name in CRITIC_HEADS}
    assert sizes == {"scalar": 1, "quantile": 32, "hl_gauss": 51}
