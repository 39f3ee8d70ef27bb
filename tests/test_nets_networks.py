"""Stacked networks against torch.nn, run by run."""

import pytest
import torch
from torch import nn

from rlop.nets import (
    MLP,
    Conv2d,
    Critics,
    GaussianPolicy,
    ImpalaTorso,
    LayerNorm,
    Linear,
    MinAtarTorso,
    NatureTorso,
    QNetwork,
    make_torso,
    preprocess,
    reset_runs,
)
from rlop.types import InputError, Spec

# --- layers ---


@pytest.mark.parametrize("lead", [(1,), (3,), (2, 2)])
def test_linear_equals_torch_slice_by_slice(lead):
    layer = Linear(lead, 5, 4)
    reset_runs(layer, range(lead[0]))
    x = torch.randn(*lead, 7, 5)

    flat = [x.flatten(0, -3), layer.weight.flatten(0, -3), layer.bias.flatten(0, -2)]
    outputs = layer(x).flatten(0, -3)
    for row, weight, bias, output in zip(*flat, outputs, strict=True):
        torch.testing.assert_close(output, nn.functional.linear(row, weight, bias))


def test_linear_refuses_a_shape_that_would_broadcast():
    with pytest.raises(ValueError, match="does not fit"):
        Linear((2,), 5, 4)(torch.randn(1, 7, 5))


def test_layer_norm_equals_torch():
    layer, x = LayerNorm((2,), 6), torch.randn(2, 3, 6)
    layer.gain.data.normal_()
    layer.shift.data.normal_()

    for run in range(2):
        expected = nn.functional.layer_norm(x[run], (6,), layer.gain[run], layer.shift[run])
        torch.testing.assert_close(layer(x)[run], expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_conv_loop_equals_grouped_form(stride):
    layer = Conv2d(3, 4, 5, 3, stride)
    reset_runs(layer, [0, 1, 2])
    x = torch.randn(3, 2, 4, 10, 10)

    images = x.transpose(0, 1).flatten(1, 2)
    filters, biases = layer.weight.flatten(0, 1), layer.bias.flatten()
    grouped = nn.functional.conv2d(images, filters, biases, stride=stride, groups=3)
    torch.testing.assert_close(layer(x), grouped.unflatten(1, (3, 5)).transpose(0, 1))


# --- torsos and heads ---


def test_q_network_is_a_linear_head_on_the_features():
    network = QNetwork(MLP((2,), 3, (8,)), 4, runs=2)
    reset_runs(network, [0, 1])

    features, q = network(torch.randn(2, 5, 3))
    expected = features @ network.head.weight.mT + network.head.bias.unsqueeze(1)
    torch.testing.assert_close(q, expected)
    assert features.min() >= 0


def test_preprocess_scales_bytes_but_not_booleans():
    assert preprocess(torch.tensor([255], dtype=torch.uint8)).item() == 1.0
    assert preprocess(torch.tensor([True])).item() == 1.0
    assert preprocess(torch.tensor([255.0])).item() == 255.0


def test_minatar_torso_reads_channel_last_images():
    torso = MinAtarTorso(2, (10, 10, 6), width=32)
    reset_runs(torso, [0, 1])
    images = torch.rand(2, 3, 10, 10, 6)

    x = images[1].permute(0, 3, 1, 2)
    x = torch.relu(nn.functional.conv2d(x, torso.conv.weight[1], torso.conv.bias[1]))
    x = nn.functional.linear(x.flatten(1), torso.hidden.weight[1], torso.hidden.bias[1])
    torch.testing.assert_close(torso(images)[1], torch.relu(x))


def test_nature_torso_has_the_published_size_and_equals_plain_layers():
    torso = NatureTorso(2, (4, 84, 84))
    reset_runs(torso, [0, 1])
    convolutions = (8 * 8 * 4 * 32 + 32) + (4 * 4 * 32 * 64 + 64) + (3 * 3 * 64 * 64 + 64)
    hidden = 3136 * 512 + 512
    assert sum(p[0].numel() for p in torso.parameters()) == convolutions + hidden

    obs = torch.rand(2, 3, 4, 84, 84)
    x = obs[1]
    for conv, stride in zip(torso.convs, (4, 2, 1), strict=True):
        x = torch.relu(nn.functional.conv2d(x, conv.weight[1], conv.bias[1], stride))
    x = nn.functional.linear(x.flatten(1), torso.hidden.weight[1], torso.hidden.bias[1])
    torch.testing.assert_close(torso(obs)[1], torch.relu(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kind"), [((10, 10, 4), MinAtarTorso), ((4, 84, 84), NatureTorso), ((4,), MLP)]
)
def test_the_torso_is_picked_by_the_shape_of_observations(shape, kind):
    torso = make_torso(Spec(shape, 3), 1, "auto", (8,), "relu", False)
    assert isinstance(torso, kind)
    assert torso.n_features == 8


@pytest.mark.parametrize(
    ("shape", "network", "activation", "message"),
    [
        ((4,), "minatar", "relu", r"minatar: expected observations of shape \(10, 10, channels\)"),
        ((4, 20, 20), "nature", "relu", r"nature: expected observations .* found \(4, 20, 20\)"),
        ((4,), "mlp", "rely", "activation = rely"),
        ((4,), "mpl", "relu", "network = mpl"),
    ],
)
def test_networks_that_cannot_read_the_observations_are_refused(
    shape, network, activation, message
):
    with pytest.raises(InputError, match=message):
        make_torso(Spec(shape, 3), 1, network, (8,), activation, False)


# --- critics ---


def test_critics_in_pieces_equal_all_at_once(monkeypatch):
    critics = Critics(3, 2, (2, 2), (16, 16), layer_norm=True)
    reset_runs(critics, [0, 1])
    parameters = list(critics.parameters())
    obs, actions = torch.randn(2, 7, 3), torch.rand(2, 7, 5, 2)
    stacked = critics.values(obs, actions)
    expected = torch.autograd.grad(stacked.square().sum(), parameters)

    monkeypatch.setattr("rlop.nets.pieces.ROWS", 20)
    monkeypatch.setattr("rlop.nets.critic.ROWS", 20)
    pieces = critics.values(obs, actions)
    gradients = torch.autograd.grad(pieces.square().sum(), parameters)
    torch.testing.assert_close(pieces, stacked)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("lead", [(1, 2), (2, 2)])
def test_critics_value_candidates_as_pairs_one_by_one(lead, plain):
    critics = Critics(3, 2, lead, (16, 8))
    critics.plain = plain
    reset_runs(critics, range(lead[0]))
    obs, actions = torch.randn(lead[0], 7, 3), torch.rand(lead[0], 7, 5, 2)

    all_features, all_values = critics(obs, actions)
    for k in range(5):
        features, values = critics(obs, actions[:, :, k])
        torch.testing.assert_close(all_features[:, :, :, k], features)
        torch.testing.assert_close(all_values[..., k], values)


def test_critics_refuse_actions_of_other_states():
    critics = Critics(3, 2, (2, 2), (8,))
    with pytest.raises(ValueError, match=r"expected \[R, B, m\] or \[R, B, N, m\]"):
        critics(torch.randn(2, 7, 3), torch.rand(2, 6, 2))


# --- precision ---


def test_bf16_products_keep_fp32_features_and_come_close():
    plain = MLP((2,), 3, (64, 64, 64))
    fast = MLP((2,), 3, (64, 64, 64), precision="bf16")
    reset_runs(plain, [0, 1])
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 50, 3)

    assert fast(x).dtype == torch.float32
    error = (fast(x) - plain(x)).norm() / plain(x).norm()
    assert 1e-5 < error < 2e-2  # rounded to 8 bits, and not more


TORSOS = {
    "mlp": ((6,), lambda: MLP((1,), 6, (8,), layer_norm=True)),
    "minatar": ((10, 10, 4), lambda: MinAtarTorso(1, (10, 10, 4), 8)),
    "nature": ((4, 36, 36), lambda: NatureTorso(1, (4, 36, 36), 8)),
    "impala": ((4, 16, 16), lambda: ImpalaTorso(1, (4, 16, 16), 8)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("name", TORSOS)
def test_networks_compute_in_the_dtype_of_their_parameters(name, dtype):
    """Observations of a type that holds more or fewer digits do not decide."""
    shape, make = TORSOS[name]
    network = QNetwork(make(), 3, 1)
    reset_runs(network, [0])
    obs = (255 * torch.rand(1, 5, *shape)).to(dtype)

    single = network(obs)
    double = network.double()(obs)
    for few_digits, many_digits in zip(single, double, strict=True):
        assert few_digits.dtype == torch.float32
        assert many_digits.dtype == torch.float64
        torch.testing.assert_close(few_digits.double(), many_digits, rtol=1e-4, atol=1e-3)
        # Float32 numbers would still be whole after this.
        assert not torch.equal(many_digits.float().double(), many_digits)


def test_critics_and_policies_compute_in_the_dtype_of_their_parameters():
    critics = Critics(3, 2, (1, 2), (8,)).double()
    policy = GaussianPolicy(MLP((1,), 3, (8,)), 2, 1).double()
    reset_runs(critics, [0])
    reset_runs(policy, [0])
    obs, action = torch.randn(1, 5, 3), torch.rand(1, 5, 2)

    for output in (*critics(obs, action), *policy(obs)):
        assert output.dtype == torch.float64
