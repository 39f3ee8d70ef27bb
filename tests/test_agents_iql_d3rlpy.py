"""IQL against the IQL of d3rlpy, with the same weights and minibatch."""

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
from rlop.agents import IQL

OPTIONS = {
    "preset": "iql/d3rlpy",
    "hidden": (16, 16),
    "policy_hidden": (16, 16),
    "batch_size": 8,
    "lr": 1e-2,
    "policy_lr": 1e-2,
    "value_lr": 1e-2,
}


def make_theirs(d3rlpy, agent):
    """Return d3rlpy's implementation with the weights of the first run of an agent."""
    config = agent.config
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(list(config.hidden))
    algorithm = d3rlpy.algos.IQLConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        value_encoder_factory=encoder,
        gamma=config.gamma,
        expectile=config.expectile,
        weight_temp=config.inverse_temperature,
        max_weight=config.max_weight,
    ).create(device=False)
    algorithm.create_impl((4,), 2)

    modules = algorithm.impl.modules
    copy_critics(modules.q_funcs, agent.critics)
    copy_critics(modules.targ_q_funcs, agent.target)

    value = agent.learners["value"].online
    copy_torso(modules.value_func._encoder, value.torso, 0)
    copy_linear(modules.value_func._fc, value.head.weight[0], value.head.bias[0])

    policy, actor = modules.policy, agent.actor
    copy_torso(policy._encoder, actor.torso, 0)
    copy_linear(policy._mu, actor.head.weight[0], actor.head.bias[0])
    # Their log std is a sigmoid between its ends.
    low, high = config.log_std_range
    share = (actor.log_std[0].detach() - low) / (high - low)
    policy._logstd.data.copy_(torch.logit(share))
    return algorithm.impl


@pytest.mark.parametrize("expectile", [0.3, 0.9])
def test_losses_and_gradients_equal_those_of_d3rlpy(moves, expectile):
    d3rlpy = import_d3rlpy()
    agent = IQL(moves.spec, expectile=expectile, **OPTIONS)
    train_steps(agent, moves, 10)
    batch, noise = first_batch(agent, moves)
    losses, _ = agent.losses(batch, noise)

    theirs = make_theirs(d3rlpy, agent)
    modules = theirs.modules
    minibatch = minibatch_of(batch)
    critic = theirs.compute_critic_loss(minibatch, theirs.compute_target(minibatch))
    actor = theirs.compute_actor_loss(minibatch, modules.policy(minibatch.observations))
    assert_close(losses["critics"][0], critic.q_loss)
    assert_close(losses["value"][0], critic.v_loss)
    assert_close(losses["policy"][0], actor.actor_loss)

    weight = agent.critics.torso.layers[0].weight
    (ours,) = torch.autograd.grad(losses["critics"].sum(), weight)
    for index, q_func in enumerate(modules.q_funcs):
        layer = linears_of(q_func.encoder)[0]
        (gradient,) = torch.autograd.grad(critic.critic_loss, layer.weight, retain_graph=True)
        assert_close(ours[0, index], gradient)

    (ours,) = torch.autograd.grad(losses["value"].sum(), agent.learners["value"].online.head.weight)
    (gradient,) = torch.autograd.grad(critic.critic_loss, modules.value_func._fc.weight)
    assert_close(ours[0], gradient)

    (ours,) = torch.autograd.grad(losses["policy"].sum(), agent.actor.head.weight)
    (gradient,) = torch.autograd.grad(actor.actor_loss, modules.policy._mu.weight)
    assert_close(ours[0], gradient)
