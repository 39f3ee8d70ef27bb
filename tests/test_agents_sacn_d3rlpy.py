"""SAC-N against the SAC of d3rlpy with several critics, the same weights and random numbers."""

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
from rlop.agents import SACN

OPTIONS = {
    "hidden": (16, 16),
    "policy_hidden": (16, 16),
    "batch_size": 8,
    "n_critics": 4,
    "log_std_range": (-20.0, 2.0),
    "entropy_loss": "exp",
    "lr": 1e-2,
    "policy_lr": 1e-2,
    "entropy_lr": 0.1,
}


def make_theirs(d3rlpy, agent):
    """Return d3rlpy's implementation with the weights of the first run of an agent."""
    config = agent.config
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(list(config.hidden))
    algorithm = d3rlpy.algos.SACConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        gamma=config.gamma,
        n_critics=config.n_critics,
        temp_learning_rate=1e-30,  # trained for the sake of its loss, but too slowly to move
    ).create(device=False)
    algorithm.create_impl((4,), 2)

    modules = algorithm.impl.modules
    copy_critics(modules.q_funcs, agent.critics)
    copy_critics(modules.targ_q_funcs, agent.target)
    policy, head = modules.policy, agent.actor.head
    copy_torso(policy._encoder, agent.actor.torso, 0)
    copy_linear(policy._mu, head.weight[0, :2], head.bias[0, :2])
    copy_linear(policy._logstd, head.weight[0, 2:], head.bias[0, 2:])
    next(modules.log_temp.parameters()).data.fill_(agent.log_weight("entropy")[0].item())
    return algorithm.impl


def test_losses_and_gradients_equal_those_of_d3rlpy(moves, monkeypatch):
    d3rlpy = import_d3rlpy()
    agent = SACN(moves.spec, **OPTIONS)
    train_steps(agent, moves, 10)
    batch, noise = first_batch(agent, moves)
    losses, _ = agent.losses(batch, noise)

    theirs = make_theirs(d3rlpy, agent)
    modules = theirs.modules
    feed(monkeypatch, [noise["backup"][0], noise["policy"][0]])
    minibatch = minibatch_of(batch)
    critic = theirs.compute_critic_loss(minibatch, theirs.compute_target(minibatch))
    actor = theirs.compute_actor_loss(minibatch, modules.policy(minibatch.observations))
    assert_close(losses["critics"][0], critic.critic_loss)
    assert_close(losses["policy"][0], actor.actor_loss)
    assert_close(losses["entropy"][0], actor.temp_loss)

    weight = agent.critics.torso.layers[0].weight
    (ours,) = torch.autograd.grad(losses["critics"].sum(), weight)
    for index, q_func in enumerate(modules.q_funcs):
        layer = linears_of(q_func.encoder)[0]
        (gradient,) = torch.autograd.grad(critic.critic_loss, layer.weight, retain_graph=True)
        assert_close(ours[0, index], gradient)

    (ours,) = torch.autograd.grad(losses["policy"].sum(), agent.actor.head.weight)
    heads = [modules.policy._mu.weight, modules.policy._logstd.weight]
    gradients = torch.autograd.grad(actor.actor_loss, heads)
    assert_close(ours[0], torch.cat(gradients))
