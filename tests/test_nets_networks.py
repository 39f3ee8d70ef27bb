"""Stacked networks against torch.nn, run by run."""

import pytest
import torch
from torch import nn

from rlop.nets import (
    MLP,
    Conv2d,
    Critics,
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


@pytest.mark.parametrize("lead", [(1,), (3,), (2, 2)])
def test_linear_equals_torch_slice_by_slice(lead):
    layer = Linear(lead, 5, 4)
    reset_runs(layer, range(lead[0]))
    x = torch.randn(*lead, 7, 5)
    flat = layer(x).flatten(0, -3)
    for i, (w, b) in enumerate(
        zip(layer.weight.flatten(0, -3), layer.bias.flatten(0, -2), strict=True)
    ):
        expected = nn.functional.linear(x.flatten(0, -3)[i], w, b)
        torch.testing.assert_close(flat[i], expected)


def test_linear_refuses_a_shape_that_would_broadcast():
    layer = Linear((2,), 5, 4)
    with pytest.raises(ValueError, match="does not fit"):
        layer(torch.randn(1, 7, 5))


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
    grouped = nn.functional.conv2d(
        x.transpose(0, 1).flatten(1, 2),
        layer.weight.flatten(0, 1),
        layer.bias.flatten(),
        stride=stride,
        groups=3,
    )
    torch.testing.assert_close(layer(x), grouped.unflatten(1, (3, 5)).transpose(0, 1))


def test_initial_network_depends_on_the_seed_alone():
    many, alone = MLP((3,), 4, (8, 8)), MLP((1,), 4, (8, 8))
    reset_runs(many, [5, 7, 5])
    reset_runs(alone, [7])
    for a, b in zip(many.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a[1], b[0])
        assert torch.equal(a[0], a[2])
        assert not torch.equal(a[0], a[1])


def test_initial_scale_is_that_of_torch():
    layer = Linear((1,), 100, 1000)
    reset_runs(layer, [0])
    assert layer.weight.abs().max() <= 0.1
    assert layer.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)


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
    x = torch.rand(2, 3, 10, 10, 6)
    conv = nn.functional.relu(
        nn.functional.conv2d(x[1].permute(0, 3, 1, 2), torso.conv.weight[1], torso.conv.bias[1])
    )
    expected = nn.functional.relu(
        nn.functional.linear(conv.flatten(1), torso.hidden.weight[1], torso.hidden.bias[1])
    )
    torch.testing.assert_close(torso(x)[1], expected)


def test_make_torso_picks_by_shape_and_refuses_the_impossible():
    assert isinstance(
        make_torso(Spec((10, 10, 4), 3), 1, "auto", (8,), "relu", False), MinAtarTorso
    )
    assert isinstance(make_torso(Spec((4, 84, 84), 3), 1, "auto", (8,), "relu", False), NatureTorso)
    assert isinstance(make_torso(Spec((4,), 3), 1, "auto", (8,), "relu", False), MLP)
    with pytest.raises(InputError, match="10, 10, channels"):
        make_torso(Spec((4,), 3), 1, "minatar", (8,), "relu", False)
    with pytest.raises(InputError, match="activation"):
        make_torso(Spec((4,), 3), 1, "mlp", (8,), "rely", False)


def test_nature_torso_has_the_published_size_and_equals_plain_layers():
    torso = NatureTorso(2, (4, 84, 84))
    reset_runs(torso, [0, 1])
    published = (
        (8 * 8 * 4 * 32 + 32) + (4 * 4 * 32 * 64 + 64) + (3 * 3 * 64 * 64 + 64) + (3136 * 512 + 512)
    )
    assert sum(p[0].numel() for p in torso.parameters()) == published
    obs = torch.rand(2, 3, 4, 84, 84)
    x = obs[1]
    for conv in torso.convs:
        x = torch.relu(
            torch.nn.functional.conv2d(x, conv.weight[1], conv.bias[1], stride=conv.stride)
        )
    x = torch.relu(x.flatten(1) @ torso.hidden.weight[1].T + torso.hidden.bias[1])
    torch.testing.assert_close(torso(obs)[1], x, rtol=1e-5, atol=1e-6)


def test_nature_torso_refuses_small_images():
    with pytest.raises(
        InputError, match=r"nature: expected observations of shape .* found \(4, 20, 20\)"
    ):
        make_torso(Spec((4, 20, 20), 3), 1, "nature", (8,), "relu", False)


def test_critics_in_pieces_equal_all_at_once(monkeypatch):
    critics = Critics(3, 2, (2, 2), (16, 16), layer_norm=True)
    reset_runs(critics, [0, 1])
    obs, actions = torch.randn(2, 7, 3), torch.rand(2, 7, 5, 2)
    stacked = critics.values(obs, actions)
    expected = torch.autograd.grad(stacked.square().sum(), list(critics.parameters()))
    monkeypatch.setattr("rlop.nets.pieces.ROWS", 20)
    monkeypatch.setattr("rlop.nets.critic.ROWS", 20)
    pieces = critics.values(obs, actions)
    found = torch.autograd.grad(pieces.square().sum(), list(critics.parameters()))
    torch.testing.assert_close(pieces, stacked)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lead", [(1, 2), (2, 2)])
def test_critics_value_candidates_as_pairs_one_by_one(lead):
    critics = Critics(3, 2, lead, (16, 8))
    reset_runs(critics, range(lead[0]))
    obs, actions = torch.randn(lead[0], 7, 3), torch.rand(lead[0], 7, 5, 2)
    found = critics(obs, actions)
    for k in range(5):
        features, values = critics(obs, actions[:, :, k])
        torch.testing.assert_close(found[0][:, :, :, k], features)
        torch.testing.assert_close(found[1][..., k], values)
    critics.plain = False
    for split, whole in zip(found, critics(obs, actions), strict=True):
        torch.testing.assert_close(split, whole)


def test_bf16_products_keep_fp32_features_and_come_close():
    plain, fast = (
        MLP((2,), 3, (64, 64, 64), precision=precision) for precision in ("fp32", "bf16")
    )
    reset_runs(plain, [0, 1])
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 50, 3)
    assert fast(x).dtype == torch.float32
    error = (fast(x) - plain(x)).norm() / plain(x).norm()
    assert 1e-5 < error < 2e-2  # rounded to 8 bits, and not more
