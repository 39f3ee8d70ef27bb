"""The trace that label noise penalizes, against Jacobians row by row."""

import itertools

import pytest
import torch
from torch.func import functional_call

from rlop.losses import td
from rlop.nets import MLP, QNetwork, reset_runs
from rlop.probes.trace import gauss_newton_trace, head_trace, noise_trace


def plain_net():
    """A network of torch.nn with two outputs."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)]
    return torch.nn.Sequential(*layers).double()


def as_function(net):
    """The network as a function of its parameters."""
    return lambda parameters, x: functional_call(net, parameters, (x,))


def all_signs(count):
    """Every vector of `count` signs, one a row."""
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=count))).double()


def squared_gradient(value, parameters):
    """Squared length of a number's gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for gradient in torch.autograd.grad(value, list(parameters)):
        total += gradient.square().sum()
    return total


@pytest.mark.parametrize("chunk", [None, 3])
def test_trace_of_any_module_equals_that_of_its_jacobian(chunk):
    net, x = plain_net(), torch.randn(7, 3, dtype=torch.float64)
    parameters = dict(net.named_parameters())
    function = as_function(net)

    total = torch.zeros((), dtype=torch.float64)
    for row in x:
        for output in range(2):
            total += squared_gradient(net(row[None])[0, output], net.parameters())
    trace = gauss_newton_trace(function, parameters, x, chunk=chunk)
    torch.testing.assert_close(trace, total / 7)


def test_trace_of_the_head_alone_needs_the_features_only():
    net, x = plain_net(), torch.randn(7, 3, dtype=torch.float64)
    parameters = dict(net.named_parameters())
    head = {name: p for name, p in parameters.items() if name.startswith("2.")}
    function = as_function(net)

    trace = gauss_newton_trace(lambda p, x: function({**parameters, **p}, x), head, x)
    torch.testing.assert_close(trace, 2 * head_trace(net[:2](x)))  # each output has its row


def test_trace_of_stacked_networks_is_that_of_each_run():
    net = QNetwork(MLP((3,), 4, (6, 5), "relu"), 2, 3)
    reset_runs(net, [0, 1, 2])
    net.double()
    x = torch.randn(3, 6, 4).double()
    action = torch.randint(2, (3, 6))
    parameters = dict(net.named_parameters())

    def q_of_action(p, x, action):
        _, q_values = functional_call(net, p, (x,))
        return td.select(q_values, action)

    trace = gauss_newton_trace(q_of_action, parameters, x, action, lead=1)
    for run in range(3):
        total = torch.zeros((), dtype=torch.float64)
        for row in range(6):
            q = q_of_action(parameters, x[:, row : row + 1], action[:, row : row + 1])
            total += squared_gradient(q[run, 0], parameters.values())
        torch.testing.assert_close(trace[run], total / 6)

    signs = all_signs(6)
    mean = noise_trace(q_of_action, parameters, x, action, signs=signs, lead=1)
    torch.testing.assert_close(mean, trace)


def test_trace_estimate_from_noise_is_unbiased():
    """The mean over all signs is the trace; one draw estimates it."""
    net, x = plain_net(), torch.randn(3, 3, dtype=torch.float64)
    parameters = dict(net.named_parameters())
    function = as_function(net)
    signs = all_signs(6).view(-1, 3, 2)

    mean = noise_trace(function, parameters, x, signs=signs)
    torch.testing.assert_close(mean, gauss_newton_trace(function, parameters, x))
    assert noise_trace(function, parameters, x, signs=signs[:1]).item() > 0


def test_wrong_shapes_are_refused():
    net, x = plain_net(), torch.randn(3, 3, dtype=torch.float64)
    parameters = dict(net.named_parameters())
    function = as_function(net)

    with pytest.raises(ValueError, match="signs"):
        noise_trace(function, parameters, x, signs=torch.ones(1, 2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="outputs"):
        gauss_newton_trace(lambda p, x: function(p, x)[..., None, None], parameters, x)
    with pytest.raises(ValueError, match="leading axes"):
        gauss_newton_trace(function, parameters, x, lead=1)
    with pytest.raises(ValueError, match="features"):
        head_trace(torch.zeros(3))
