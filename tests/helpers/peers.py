"""What tests against d3rlpy share: its networks with our weights, and our minibatch as its own."""

import warnings

import pytest
import torch


def import_d3rlpy():
    """Return the package; skip the test where it is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that it imports
        return pytest.importorskip("d3rlpy")


def copy_linear(theirs, weight, bias):
    theirs.weight.data.copy_(weight)
    theirs.bias.data.copy_(bias)


def linears_of(encoder):
    return [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)]


def copy_torso(encoder, torso, *index):
    for linear, layer in zip(linears_of(encoder), torso.layers, strict=True):
        copy_linear(linear, layer.weight[index], layer.bias[index])


def copy_critics(q_funcs, critics):
    for critic, q_func in enumerate(q_funcs):
        copy_torso(q_func.encoder, critics.torso, 0, critic)
        copy_linear(q_func._fc, critics.head.weight[0, critic], critics.head.bias[0, critic])


def minibatch_of(batch):
    """Return the first run's minibatch as theirs, without next actions and returns."""
    from d3rlpy.torch_utility import TorchMiniBatch

    size, n_dims = batch.action[0].shape
    zeros = torch.zeros(size, 1)
    return TorchMiniBatch(
        observations=batch.obs[0],
        actions=batch.action[0],
        rewards=batch.reward[0][:, None],
        next_observations=batch.next_obs[0],
        next_actions=torch.zeros(size, n_dims),
        returns_to_go=zeros,
        terminals=batch.terminated[0][:, None],
        intervals=zeros + 1,
        device="cpu",
    )


def assert_close(ours, theirs):
    ours, theirs = ours.detach().squeeze(), theirs.detach().squeeze()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def feed(monkeypatch, normals, uniform=None):
    """Make d3rlpy draw these numbers, in this order.

    Args:
        monkeypatch: of the test.
        normals: standard normal ones, taken from the list.
        uniform: in [0, 1); None where none are drawn.
    """
    from d3rlpy.models.torch import distributions

    class Normal(torch.distributions.Normal):
        def rsample(self, sample_shape=()):
            drawn = normals.pop(0)
            assert drawn.shape == (*sample_shape, *self.loc.shape)
            return self.loc + self.scale * drawn

    def uniform_(tensor, low, high):
        return tensor.copy_(low + (high - low) * uniform)

    monkeypatch.setattr(distributions, "Normal", Normal)
    if uniform is not None:
        monkeypatch.setattr(torch.Tensor, "uniform_", uniform_)
