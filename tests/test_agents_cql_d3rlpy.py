"""Continuous CQL against the CQL of d3rlpy, with the same weights, minibatch and random numbers."""

import pytest
import torch
from helpers.peers import (
    assert_close,
    copy_critics,
    copy_linear,
    copy_torso,
    feed,
    import_d3rlpy,
    linears_of,
    minibatch_of,
)
from helpers.training import first_batch, train_steps
from rlop.agents import CQL

OBS, ACT = 4, 2  # of the fixture `moves`
BATCH = 8
OPTIONS = {
    "preset": "cql/d3rlpy",
    "hidden": (16, 16),
    "policy_hidden": (16, 16),
    "batch_size": BATCH,
    "action_samples": 3,
    "backup_samples": 3,
    "lr": 1e-2,
    "policy_lr": 1e-2,
    "entropy_lr": 0.1,
    "alpha_lr": 0.1,
}


@pytest.fixture
def d3rlpy():
    return import_d3rlpy()


def make_theirs(d3rlpy, agent, options):
    """Return d3rlpy's implementation with the weights of the first run of an agent."""
    config = agent.config
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(list(config.hidden))
    # Both weights are trained, for the sake of their losses, but too slowly to move.
    algorithm = d3rlpy.algos.CQLConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        n_action_samples=config.action_samples,
        conservative_weight=config.alpha,
        alpha_threshold=config.gap,
        gamma=config.gamma,
        alpha_learning_rate=1e-30,
        temp_learning_rate=1e-30,
        **options,
    ).create(device=False)
    algorithm.create_impl((OBS,), ACT)

    modules = algorithm.impl.modules
    copy_critics(modules.q_funcs, agent.critics)
    copy_critics(modules.targ_q_funcs, agent.target)

    policy, head = modules.policy, agent.actor.head
    copy_torso(policy._encoder, agent.actor.torso, 0)
    copy_linear(policy._mu, head.weight[0, :ACT], head.bias[0, :ACT])
    copy_linear(policy._logstd, head.weight[0, ACT:], head.bias[0, ACT:])

    weights = {"entropy": modules.log_temp, "multiplier": modules.log_alpha}
    for name, weight in weights.items():
        next(weight.parameters()).data.fill_(agent.log_weight(name)[0].item())
    return algorithm.impl


def normals_in_their_order(noise, soft):
    """Return our random numbers of the first run as d3rlpy draws them: `[N, B, m]` or `[B, m]`."""
    normals = []
    if "backup" in noise:
        backup = noise["backup"][0].transpose(0, 1)
        normals.append(backup[0] if soft else backup)
    normals.append(noise["here"][0].transpose(0, 1))
    normals.append(noise["there"][0].transpose(0, 1))
    normals.append(noise["policy"][0])
    return normals


@pytest.mark.parametrize(
    ("our_options", "their_options"),
    [
        ({}, {}),
        ({"backup": "min_then_max"}, {"max_q_backup": True}),
        ({"backup": "sample", "backup_entropy": True}, {"soft_q_backup": True}),
    ],
    ids=["mean", "max", "soft"],
)
def test_losses_and_gradients_equal_those_of_d3rlpy(
    moves, d3rlpy, monkeypatch, our_options, their_options
):
    agent = CQL(moves.spec, **{**OPTIONS, **our_options})
    train_steps(agent, moves, 10)
    batch, noise = first_batch(agent, moves)
    losses, _ = agent.losses(batch, noise)

    theirs = make_theirs(d3rlpy, agent, their_options)
    modules = theirs.modules
    minibatch = minibatch_of(batch)
    normals = normals_in_their_order(noise, soft="soft_q_backup" in their_options)
    feed(monkeypatch, normals, noise["random"][0].flatten(0, 1))
    critic = theirs.compute_critic_loss(minibatch, theirs.compute_target(minibatch))
    actor = theirs.compute_actor_loss(minibatch, modules.policy(minibatch.observations))
    assert not normals

    assert_close(losses["critics"][0], critic.critic_loss)
    assert_close(losses["multiplier"][0], -critic.conservative_loss / 2)
    assert_close(losses["policy"][0], actor.actor_loss)
    assert_close(losses["entropy"][0], actor.temp_loss)

    weight = agent.critics.torso.layers[0].weight
    (ours,) = torch.autograd.grad(losses["critics"].sum(), weight, retain_graph=True)
    for index, q_func in enumerate(modules.q_funcs):
        layer = linears_of(q_func.encoder)[0]
        (gradient,) = torch.autograd.grad(critic.critic_loss, layer.weight, retain_graph=True)
        assert_close(ours[0, index], gradient)

    (ours,) = torch.autograd.grad(losses["policy"].sum(), agent.actor.head.weight)
    heads = [modules.policy._mu.weight, modules.policy._logstd.weight]
    gradients = torch.autograd.grad(actor.actor_loss, heads)
    assert_close(ours[0], torch.cat(gradients))
