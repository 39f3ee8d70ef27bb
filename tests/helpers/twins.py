"""What the float64 twins of agents share: plain networks, and the comparison."""

import torch


def leaves_of(network, run):
    """Return the parameters of one run as float64 tensors of their own, which take gradients."""
    leaves = {}
    for name, parameter in network.named_parameters():
        leaves[name] = parameter[run].detach().double().requires_grad_()
    return leaves


def mlp(parameters, x):
    """Return features and outputs of a network with ReLU layers, normalized before if it has so."""
    layer = 0
    while f"torso.layers.{layer}.weight" in parameters:
        weight = parameters[f"torso.layers.{layer}.weight"]
        x = x @ weight.T + parameters[f"torso.layers.{layer}.bias"]
        if f"torso.norms.{layer}.gain" in parameters:
            centered = x - x.mean(-1, keepdim=True)
            x = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            x = (
                x * parameters[f"torso.norms.{layer}.gain"]
                + parameters[f"torso.norms.{layer}.shift"]
            )
        x = x.clamp_min(0)
        layer += 1
    return x, x @ parameters["head.weight"].T + parameters["head.bias"]


def critic_of(parameters, critic):
    """Return the parameters of one critic."""
    return {name: values[critic] for name, values in parameters.items()}


def assert_twin(agent, twins, losses, expected, tolerance=1e-9):
    """Compare losses and gradients of every run and learner with those of its twin.

    Args:
        agent: in float64.
        twins: one for each run, with the leaves of every learner by its name.
        losses: learner -> `[R]`.
        expected: one for each run, learner -> loss.
        tolerance: relative and absolute.
    """
    for run, (twin, theirs) in enumerate(zip(twins, expected, strict=True)):
        for name, loss in losses.items():
            torch.testing.assert_close(loss[run], theirs[name], rtol=tolerance, atol=tolerance)
            parameters = list(agent.learners[name].parameters.values())
            ours = torch.autograd.grad(loss[run], parameters, retain_graph=True)
            leaves = list(getattr(twin, name).values())
            others = torch.autograd.grad(theirs[name], leaves, retain_graph=True)
            for gradient, other in zip(ours, others, strict=True):
                torch.testing.assert_close(gradient[run], other, rtol=tolerance, atol=tolerance)
                neighbors = [i for i in range(len(gradient)) if i != run]
                assert gradient[neighbors].abs().max() == 0


def to_float64(agent):
    """Turn every network of an agent to float64."""
    for learner in agent.learners.values():
        learner.online.double()
        if learner.target is not None:
            learner.target.double()
