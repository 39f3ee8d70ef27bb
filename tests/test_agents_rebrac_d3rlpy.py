"""ReBRAC and TD3+BC against those of d3rlpy, with the same weights, minibatch and noise."""

import dataclasses

import pytest
import torch
from helpers.peers import (
    assert_close,
    copy_critics,
    copy_linear,
    copy_torso,
    import_d3rlpy,
    linears_of,
    minibatch_of,
)
from helpers.training import first_batch, train_steps
from rlop.agents import ReBRAC

SIZES = {
    "hidden": (16, 16),
    "policy_hidden": (16, 16),
    "batch_size": 8,
    "lr": 1e-2,
    "policy_lr": 1e-2,
}


def make_theirs(d3rlpy, agent, make_config, **options):
    """Return d3rlpy's implementation with the weights of the first run of an agent."""
    config = agent.config
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(list(config.hidden))
    algorithm = make_config(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        gamma=config.gamma,
        target_smoothing_sigma=config.policy_noise,
        target_smoothing_clip=config.noise_clip,
        **options,
    ).create(device=False)
    algorithm.create_impl((4,), 2)

    modules, policy = algorithm.impl.modules, agent.learners["policy"]
    copy_critics(modules.q_funcs, agent.critics)
    copy_critics(modules.targ_q_funcs, agent.target)
    for theirs, ours in (
        (modules.policy, policy.online),
        (modules.targ_policy, policy.target),
    ):
        copy_torso(theirs._encoder, ours.torso, 0)
        copy_linear(theirs._fc, ours.head.weight[0], ours.head.bias[0])
    return algorithm.impl


@pytest.mark.parametrize("kind", ["ReBRAC", "TD3PlusBC"])
def test_losses_and_gradients_equal_those_of_d3rlpy(moves, monkeypatch, kind):
    d3rlpy = import_d3rlpy()
    preset = {"ReBRAC": "rebrac/d3rlpy", "TD3PlusBC": "td3bc/corl"}[kind]
    agent = ReBRAC(moves.spec, preset=preset, policy_noise=0.4, **SIZES)
    train_steps(agent, moves, 10)
    batch, noise = first_batch(agent, agent.prepare(moves))
    losses, _ = agent.losses(batch, noise)

    options = {"alpha": agent.config.q_weight}
    if kind == "ReBRAC":
        options = {"actor_beta": agent.config.policy_bc, "critic_beta": agent.config.critic_bc}
    theirs = make_theirs(d3rlpy, agent, getattr(d3rlpy.algos, f"{kind}Config"), **options)
    modules = theirs.modules
    minibatch = minibatch_of(batch)
    if kind == "ReBRAC":
        next_actions = batch.extra["next_action"][0]
        minibatch = dataclasses.replace(minibatch, next_actions=next_actions)
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: noise["action"][0])
    critic = theirs.compute_critic_loss(minibatch, theirs.compute_target(minibatch))
    actor = theirs.compute_actor_loss(minibatch, modules.policy(minibatch.observations))
    assert_close(losses["critics"][0], critic.critic_loss)
    assert_close(losses["policy"][0], actor.actor_loss)

    weight = agent.critics.torso.layers[0].weight
    (ours,) = torch.autograd.grad(losses["critics"].sum(), weight)
    for index, q_func in enumerate(modules.q_funcs):
        layer = linears_of(q_func.encoder)[0]
        (gradient,) = torch.autograd.grad(critic.critic_loss, layer.weight, retain_graph=True)
        assert_close(ours[0, index], gradient)

    (ours,) = torch.autograd.grad(losses["policy"].sum(), agent.actor.head.weight)
    (gradient,) = torch.autograd.grad(actor.actor_loss, modules.policy._fc.weight)
    assert_close(ours[0], gradient)
