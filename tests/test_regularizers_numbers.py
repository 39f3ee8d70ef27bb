"""The numbers of regularizers of features: by hand, in closed form, or against float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.regularizers import context, network_with_head, normal
from numpy.linalg import norm
from torch import Tensor

from rlop.nets import QNetwork, make_torso, reset_runs
from rlop.regularizers import (
    InFeR,
    PCShare,
    beer,
    cosine,
    diversity,
    dr3,
    feature_decorrelation,
    feature_norm,
    infer,
    initial_features,
    l2,
    path_norm,
    pc_share,
    peer,
    spectral_decoupling,
    srank_penalty,
)
from rlop.types import Spec

# Dot products 24 and 0, cosines 24/25 and 0.
PHI = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
NEXT = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
ONES = torch.ones(2, dtype=torch.float64)


# --- shapes that would broadcast are refused ---

SHAPES: list[tuple[Callable[[], Tensor], str]] = [
    (lambda: dr3(PHI, NEXT[:1]), r"one shape.*got \(2, 2\) and \(1, 2\)"),
    (lambda: dr3(PHI[0], NEXT[0]), "one shape"),
    (lambda: dr3(PHI, NEXT, torch.ones(2, 1)), r"mask: expected \(2,\), got \(2, 1\)"),
    (lambda: cosine(PHI, NEXT[:1]), "one shape"),
    (lambda: cosine(PHI, NEXT, torch.ones(1)), r"mask: expected \(2,\)"),
    (lambda: peer(PHI, NEXT[:, :1]), "one shape"),
    (lambda: beer(PHI, NEXT, NEXT, ONES[:1], ONES, PHI[:1]), r"reward: expected \(2,\)"),
    (lambda: beer(PHI, NEXT, NEXT, ONES, ONES[:1], PHI[:1]), r"discount: expected \(2,\)"),
    (lambda: beer(PHI, NEXT, NEXT, ONES, ONES, PHI[:1, :1]), "head_weight"),
    (lambda: feature_norm(PHI[0]), "non-empty"),
    (lambda: feature_decorrelation(PHI[:0]), "non-empty"),
    (lambda: srank_penalty(PHI[:, :0]), "non-empty"),
    (lambda: pc_share(PHI, torch.ones(3))[0], r"u: expected \(2,\), got \(3,\)"),
    (lambda: infer(PHI, NEXT, PHI, PHI[:1], 1.0), "heads"),
    (lambda: spectral_decoupling(PHI, torch.zeros(2)), r"got \(2, 2\) and \(2,\)"),
    (lambda: path_norm([PHI]), "at least two layers, got 1"),
    (lambda: path_norm([PHI, torch.ones(2, 3)]), "expected"),
    (lambda: path_norm([PHI, torch.ones(2)]), "expected"),
    (lambda: l2({}), "at least one"),
    (lambda: l2({"b": PHI}, {"w": PHI}), "for 'b', got none"),
    (lambda: l2({"b": PHI}, {"b": PHI[:1]}), r"\(2, 2\) for 'b', got \(1, 2\)"),
]


@pytest.mark.parametrize(("call", "message"), SHAPES)
def test_shapes_that_do_not_fit_are_refused(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- pairs of consecutive features ---


@pytest.mark.parametrize(
    ("next_features", "form", "mask", "expected"),
    [
        ([[2.0, 0.5], [-1.0, 4.0]], "signed", None, -2.0),  # dot products 3 and -7
        ([[2.0, 0.5], [-1.0, 4.0]], "abs", None, 5.0),
        ([[2.0, 0.5], [-1.0, 4.0]], "squared", None, 29.0),
        ([[2.0, 0.5], [-1.0, 4.0]], "signed", [1.0, 0.0], 1.5),  # divided by the whole batch
        ([[2.0, 0.5], [-1.0, 4.0]], "squared", [1.0, 0.0], 4.5),
        ([[2.0, 0.5], [-1.0, 4.0]], "signed", [True, False], 1.5),
    ],
)
def test_dr3_by_hand(
    next_features: list[list[float]], form: str, mask: list[float] | None, expected: float
) -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    keep = None if mask is None else torch.tensor(mask)
    assert dr3(features, torch.tensor(next_features), keep, form) == expected


def test_dr3_forms_agree_on_features_that_are_not_negative() -> None:
    assert dr3(PHI, NEXT) == dr3(PHI, NEXT, form="abs") == 12.0


def test_dr3_gradient_in_closed_form_reaches_both_sides() -> None:
    features, next_features = PHI.clone().requires_grad_(), NEXT.clone().requires_grad_()
    dr3(features, next_features, torch.tensor([1.0, 0.0])).backward()
    assert torch.equal(features.grad, torch.tensor([[2.0, 1.5], [0.0, 0.0]]))  # m_b phi'_b / B
    assert torch.equal(next_features.grad, torch.tensor([[1.5, 2.0], [0.0, 0.0]]))  # m_b phi_b / B


def test_cosine_by_hand() -> None:
    assert cosine(PHI, NEXT).item() == pytest.approx(0.48)
    assert cosine(PHI, -NEXT).item() == pytest.approx(-0.48)
    assert cosine(PHI, -NEXT, form="abs").item() == pytest.approx(0.48)
    assert cosine(PHI, NEXT, form="squared").item() == pytest.approx(0.5 * 0.96**2)
    assert cosine(PHI, NEXT, torch.tensor([0.0, 1.0])) == 0.0
    assert cosine(torch.zeros(2, 2), NEXT) == 0.0


@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_cosine_does_not_depend_on_length_not_even_of_one_side(scale: float) -> None:
    features, next_features = normal(3, 5, 4), normal(3, 5, 4, seed=1)
    value = cosine(features, next_features)
    torch.testing.assert_close(cosine(scale * features, scale * next_features), value)
    torch.testing.assert_close(cosine(scale * features, next_features), value)


def test_cosine_gradient_is_orthogonal_to_the_features() -> None:
    features, next_features = normal(3, 5, 4).requires_grad_(), normal(3, 5, 4, seed=1)
    (grad,) = torch.autograd.grad(cosine(features, next_features).sum(), features)
    along = (grad * features).sum(-1)
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-15)


def test_peer_is_dr3_with_the_second_side_detached() -> None:
    features, target = normal(2, 5, 4).requires_grad_(), normal(2, 5, 4, seed=1).requires_grad_()
    mask = torch.tensor([[1.0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])
    value = peer(features, target, mask)
    torch.testing.assert_close(value, dr3(features, target, mask))

    value.sum().backward()
    torch.testing.assert_close(features.grad, target.detach() * mask[..., None] / 5)
    assert target.grad is None


# --- beer ---

Array = np.ndarray


def numpy_beer(phi: Array, online: Array, target: Array, reward: Array, gamma: float, w: Array):
    """Compute the authors' loss for one critic, row by row."""
    rows = []
    for x, y, z, r in zip(phi, online, target, reward):
        distance = norm(x) ** 2 + gamma**2 * norm(y) ** 2 - r**2 / norm(w) ** 2
        bound = 0.5 / gamma * distance / (norm(x) * norm(z))
        similarity = x @ z / (norm(x) * norm(z))
        rows.append(max(0.0, similarity - max(bound, -1.0)))
    return float(np.mean(rows))


def test_beer_equals_a_numpy_twin_and_is_bounded() -> None:
    phi, online, target = normal(6, 3).abs(), normal(6, 3, seed=1).abs(), normal(6, 3, seed=2).abs()
    reward, w = 2 * normal(6, seed=4), normal(1, 3, seed=5)
    discount = torch.full((6,), 0.9, dtype=torch.float64)

    value = beer(phi, online, target, reward, discount, w)
    arrays = [tensor.numpy() for tensor in (phi, online, target, reward)]
    assert 0 < value.item() == pytest.approx(numpy_beer(*arrays, 0.9, w.numpy()), rel=1e-12)

    headless = beer(phi, online, target, reward, discount, 0 * w)
    torch.testing.assert_close(headless, cosine(phi, target) + 1)


def test_beer_leaves_features_alone_that_obey_the_bellman_equation() -> None:
    # r = w . (phi - g phi') holds exactly, so with phi'_target = phi' no cosine exceeds its bound.
    phi, following, w = normal(50, 3), normal(50, 3, seed=1), normal(1, 3, seed=2)
    reward = (phi - 0.9 * following) @ w[0]
    discount = torch.full((50,), 0.9, dtype=torch.float64)
    obeyed = beer(phi, following, following, reward, discount, w)
    broken = beer(phi, following, following, 3 * reward, discount, w)
    assert obeyed.item() == pytest.approx(0, abs=1e-15)
    assert broken > 0.01


def test_beer_counts_nothing_without_a_next_value() -> None:
    phi = normal(4, 3)
    reward = torch.ones(4, dtype=torch.float64)
    assert beer(phi, phi, phi, reward, 0 * reward, normal(1, 3)) == 0


def test_beer_of_several_actions_is_that_of_the_stacked_head() -> None:
    phi, following = normal(5, 3), normal(5, 3, seed=1)
    head, reward = normal(4, 3, seed=2), 9 * normal(5, seed=3)
    discount = torch.full((5,), 0.9, dtype=torch.float64)

    def stacked(x: Tensor) -> Tensor:
        # phi(s) in the block of action 2: the same lengths and cosines, one head of length A D.
        return torch.nn.functional.pad(x, (6, 3))

    phi_a, following_a = stacked(phi), stacked(following)
    expected = beer(phi_a, following_a, following_a, reward, discount, head.reshape(1, 12))
    torch.testing.assert_close(beer(phi, following, following, reward, discount, head), expected)


# --- shape of the feature matrix ---


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_srank_penalty_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    phi = normal(2, *shape)
    s = np.linalg.svd(phi.numpy(), compute_uv=False)
    np.testing.assert_allclose(srank_penalty(phi), s[:, 0] ** 2 - s[:, -1] ** 2, rtol=1e-12)
    assert torch.autograd.gradcheck(srank_penalty, phi.requires_grad_())


def test_srank_penalty_of_repeated_values_has_a_subgradient() -> None:
    # 2 I: sigma^2 = 4 three times, so the penalty is 0 and the gradient 4 (v v^T - u u^T) for some
    # orthonormal u, v.
    phi = (2 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    value = srank_penalty(phi)
    (grad,) = torch.autograd.grad(value, phi)
    assert value == 0
    np.testing.assert_allclose(np.linalg.eigvalsh(grad.numpy()), [-4, 0, 4], atol=1e-12)


def test_srank_penalty_cannot_revive_a_dead_unit() -> None:
    phi = normal(6, 3)
    phi[:, 1] = 0
    (grad,) = torch.autograd.grad(srank_penalty(phi.requires_grad_()), phi)
    assert grad[:, 1].abs().max() < 1e-12
    assert grad.abs().sum() > 0


def test_srank_penalty_in_single_precision_is_computed_in_double() -> None:
    scales = 10.0 ** torch.arange(0, -4, -0.5, dtype=torch.float64)
    phi = (normal(64, 8) @ torch.diag(scales)).float()
    value = srank_penalty(phi)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(srank_penalty(phi.double()).item(), rel=1e-7)


def test_pc_share_converges_to_the_first_components_share() -> None:
    # The mean does not count.
    phi = normal(3, 40, 5) * torch.tensor([4.0, 1, 1, 0.5, 0.1]) + 7.0
    variances = np.linalg.eigvalsh(np.stack([np.cov(x.T) for x in phi.numpy()]))

    u = torch.full((3, 5), 5**-0.5, dtype=torch.float64)
    first_share, u = pc_share(phi, u)
    for _ in range(60):
        share, u = pc_share(phi, u)

    np.testing.assert_allclose(share, variances[:, -1] / variances.sum(-1), rtol=1e-9)
    assert (first_share < share).all()
    torch.testing.assert_close(u.square().sum(-1), torch.ones(3, dtype=torch.float64))


def test_pc_share_by_hand_and_takes_u_as_given() -> None:
    # One direction: v = X^T X u = 2 [1, 1] for u = e_1.
    phi = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], requires_grad=True)
    share, next_u = pc_share(phi, torch.tensor([1.0, 0.0]))
    assert share.item() == pytest.approx(8**0.5 / 4)  # |v| / |X|_F^2, below the true share of 1
    torch.testing.assert_close(next_u, torch.full((2,), 0.5**0.5))
    assert not next_u.requires_grad


def test_pc_share_of_constant_features_is_zero_and_keeps_u() -> None:
    u = torch.tensor([0.6, 0.8])
    share, next_u = pc_share(torch.ones(3, 2), u)
    assert share == 0
    assert torch.equal(next_u, u)


def test_pc_share_is_free_below_the_threshold_and_takes_one_step_a_call() -> None:
    regularizer, network = PCShare(threshold=0.3), network_with_head(2, 3, 4)
    penalty = regularizer.attach(network, "relu", [0, 5])
    assert torch.equal(penalty.u, torch.full((2, 4), 0.5))

    ctx = SimpleNamespace(features=normal(2, 30, 4).float())
    u = penalty.u.clone()
    for _ in range(3):
        share, u = pc_share(ctx.features, u)
        torch.testing.assert_close(penalty(ctx), torch.relu(share - 0.3))
        torch.testing.assert_close(penalty.u, u)

    restored = regularizer.attach(network, "relu", [0, 5])
    restored.load_state_dict(penalty.state_dict())
    torch.testing.assert_close(restored(ctx), penalty(ctx))


def test_feature_norm_by_hand() -> None:
    assert feature_norm(PHI) == 13.0
    torch.testing.assert_close(feature_norm(normal(2, 5, 4)), dr3(normal(2, 5, 4), normal(2, 5, 4)))


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_feature_decorrelation_is_the_off_diagonal_of_the_covariance(
    shape: tuple[int, int],
) -> None:
    phi = normal(2, *shape) + 3
    expected = []
    for x in phi.numpy():
        covariance = np.cov(x.T, bias=True)
        expected.append(np.square(covariance).sum() - np.square(np.diag(covariance)).sum())
    np.testing.assert_allclose(feature_decorrelation(phi), expected, rtol=1e-10)


def test_feature_decorrelation_by_hand() -> None:
    assert feature_decorrelation(torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])) == 0
    # Both off-diagonal entries are 1.
    assert feature_decorrelation(torch.tensor([[1.0, 1], [-1, -1]])) == 2


# --- infer ---


def test_infer_by_hand() -> None:
    heads, initial = torch.eye(2), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    # Predictions are phi, targets 10 phi0 under the swapped heads.
    expected = ((PHI - 10 * initial.flip(-1)) ** 2).mean()
    torch.testing.assert_close(infer(PHI, initial, heads, heads.flip(0), 10.0), expected)


def test_infer_is_zero_at_the_start() -> None:
    penalty = InFeR(heads=3, beta=1.0).attach(network_with_head(2, 2, 3, 4), "relu", [7, 8])
    phi = normal(2, 2, 5, 4).float()
    ctx = SimpleNamespace(features=phi, initial_features=phi)
    assert torch.equal(penalty(ctx), torch.zeros(2))


def test_infer_draws_its_heads_from_each_runs_seed_and_apart_from_the_network() -> None:
    # Two runs of two critics.
    regularizer = InFeR(heads=3)
    together = regularizer.attach(network_with_head(2, 2, 3, 4), "relu", [7, 8]).heads
    alone = regularizer.attach(network_with_head(1, 2, 3, 4), "relu", [8]).heads
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[0, 0], together[0, 1])
    assert together.abs().max() <= 0.5

    of_network = torch.empty(24).uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(7))
    assert not torch.equal(of_network, together[0].flatten())


@pytest.mark.parametrize("regularizer", [InFeR(), PCShare()])
def test_a_regularizer_with_tensors_is_not_called_before_it_is_attached(
    regularizer: InFeR | PCShare,
) -> None:
    with pytest.raises(TypeError, match="attach"):
        regularizer(context())


def test_initial_features_are_those_before_training() -> None:
    torso = make_torso(Spec(obs_shape=(4,), n_actions=3), 2, "mlp", (8, 5), "relu", True)
    network = QNetwork(torso, 3, 2)
    reset_runs(network, [0, 1])
    initial = {name: p.detach().clone() for name, p in network.named_parameters()}
    obs = torch.randn(2, 6, 4)
    before = network.features(obs).detach()

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))

    features = initial_features(SimpleNamespace(online=network, initial=initial), obs)
    assert torch.equal(features, before)
    assert not features.requires_grad
    assert not torch.equal(network.features(obs), before)


# --- diversity ---


def test_diversity_of_three_critics_by_hand():
    """Two agree and the third is at a right angle: one pair of three, in both orders."""
    slopes = torch.tensor([[[3.0, 0.0]], [[0.5, 0.0]], [[0.0, -2.0]]], dtype=torch.float64)
    assert diversity(slopes[None]).tolist() == [[pytest.approx(1.0)]]
    same, opposite = slopes[:2], slopes[:1] * torch.tensor([1.0, -1.0]).view(2, 1, 1)
    assert diversity(same[None]).item() == pytest.approx(2.0)
    assert diversity(opposite[None]).item() == pytest.approx(-2.0)


def test_diversity_of_slopes_of_zero_is_finite_with_its_gradient():
    slopes = torch.zeros(1, 3, 2, 4, requires_grad=True)
    diversity(slopes).sum().backward()
    assert torch.isfinite(slopes.grad).all()
    with pytest.raises(ValueError, match="E > 1"):
        diversity(torch.zeros(1, 1, 2, 4))
