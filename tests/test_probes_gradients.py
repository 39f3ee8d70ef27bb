"""Gradients of every value of any module, and their Gram matrices."""

import pytest
import torch
from helpers.probes import gaussian
from torch import nn

from rlop.probes import gradient_rows, value_function
from rlop.probes.gradients import gradient_blocks, gram


def test_gradient_rows_of_a_module_are_those_of_backward():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = gaussian(6, 4)
    action = torch.tensor([0, 1, 2, 0, 1, 2])
    rows = gradient_rows(value_function(net, x, action), dict(net.named_parameters()))
    for i in range(6):
        value = net(x[i])[action[i]]
        gradients = torch.autograd.grad(value, list(net.parameters()))
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        torch.testing.assert_close(rows[i].detach(), expected)


class Critic(nn.Module):
    """A linear value of observation and action."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1).double()

    def forward(self, obs, action):
        return self.layer(torch.cat([obs, action], -1))


def test_gradients_of_one_output_and_of_two_arguments():
    critic = Critic()
    obs = gaussian(4, 2)
    action = gaussian(4, 1, seed=1)
    values = value_function(critic, (obs, action))
    blocks = gradient_blocks(values, dict(critic.named_parameters()))

    inputs = torch.cat([obs, action], -1)
    torch.testing.assert_close(blocks["layer.weight"].detach(), inputs)
    torch.testing.assert_close(gram(blocks, blocks).detach(), inputs @ inputs.mT + 1)


def test_shapes_and_names_are_checked():
    net = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="action: expected"):
        gradient_rows(value_function(net, torch.zeros(2, 4)), dict(net.named_parameters()))

    def values_of_two_runs(p):
        return p["w"].sum() * torch.ones(2, 5)

    with pytest.raises(ValueError, match=r"w \(3,\): expected leading axes \(2,\)"):
        gradient_rows(values_of_two_runs, {"w": torch.ones(3)})
    with pytest.raises(ValueError, match="different parameters"):
        gram({"a": torch.zeros(2, 2)}, {"b": torch.zeros(2, 2)})
