"""The numbers of each regularizer: by hand, in closed form, or against float64 NumPy written plainly."""

from __future__ import annotations

import copy
import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlop.nets import QNetwork, make_torso, reset_runs
from rlop.probes import active_neurons
from rlop.regularizers import (
    beer,
    cosine,
    dr3,
    feature_decorrelation,
    feature_norm,
    infer,
    initial_features,
    l2,
    make_regularizer,
    neuron_products,
    path_norm,
    pc_share,
    peer,
    spectral_decoupling,
    srank_penalty,
    warn_if_unbounded,
)
from rlop.types import InputError, Spec


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PHI, NEXT = (
    torch.tensor([[3.0, 4.0], [1.0, 0.0]]),
    torch.tensor([[4.0, 3.0], [0.0, 2.0]]),
)  # cosines 24/25 and 0


# --- pairs of consecutive features ---


def test_cosine_by_hand() -> None:
    assert cosine(PHI, NEXT).item() == pytest.approx(0.48)
    assert cosine(PHI, -NEXT, form="abs").item() == pytest.approx(0.48)
    assert cosine(PHI, NEXT, form="squared").item() == pytest.approx(0.5 * 0.96**2)
    assert cosine(PHI, NEXT, torch.tensor([0.0, 1.0])) == 0.0
    assert cosine(torch.zeros(2, 2), NEXT) == 0.0


def test_cosine_does_not_see_scale_and_its_gradient_is_orthogonal_to_the_features() -> None:
    phi, following = normal(3, 5, 4).requires_grad_(), normal(3, 5, 4, seed=1)
    value = cosine(phi, following)
    torch.testing.assert_close(cosine(7 * phi, 0.1 * following), value)
    (grad,) = torch.autograd.grad(value.sum(), phi)
    torch.testing.assert_close(
        (grad * phi).sum(-1), torch.zeros(3, 5, dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert torch.autograd.gradcheck(
        lambda x, y: cosine(x, y, form="abs"), (phi, following.requires_grad_())
    )


def test_peer_is_dr3_with_the_second_side_detached() -> None:
    phi, target = normal(2, 5, 4).requires_grad_(), normal(2, 5, 4, seed=1).requires_grad_()
    mask = torch.tensor([[1.0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])
    value = peer(phi, target, mask)
    torch.testing.assert_close(value, dr3(phi, target, mask))
    value.sum().backward()
    torch.testing.assert_close(phi.grad, target.detach() * mask[..., None] / 5)
    assert target.grad is None


def test_peer_warns_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("rlop.regularizers.dr3"), "_warned", False)
    with pytest.warns(UserWarning, match="peer with form 'signed' on tanh features"):
        warn_if_unbounded(make_regularizer("peer").form, "tanh", "peer")  # type: ignore[attr-defined]


def numpy_beer(phi: Any, online: Any, target: Any, reward: Any, gamma: float, w: Any) -> float:
    """The authors' loss for one critic, row by row."""
    rows = []
    for x, y, z, r in zip(phi, online, target, reward):
        norm = np.linalg.norm
        bound = (
            0.5
            / gamma
            * (norm(x) ** 2 + gamma**2 * norm(y) ** 2 - r**2 / norm(w) ** 2)
            / (norm(x) * norm(z))
        )
        rows.append(max(0.0, x @ z / (norm(x) * norm(z)) - max(bound, -1.0)))
    return float(np.mean(rows))


def test_beer_equals_a_numpy_twin_and_is_bounded() -> None:
    phi, online, target = (normal(6, 3, seed=seed).abs() for seed in range(3))
    reward, w = 2 * normal(6, seed=4), normal(1, 3, seed=5)
    value = beer(phi, online, target, reward, torch.full((6,), 0.9, dtype=torch.float64), w)
    expected = numpy_beer(*(x.numpy() for x in (phi, online, target, reward)), 0.9, w.numpy())
    assert 0 < value.item() == pytest.approx(expected, rel=1e-12)
    tiny = beer(phi, online, target, reward, torch.full((6,), 0.9, dtype=torch.float64), 0 * w)
    torch.testing.assert_close(tiny, (cosine(phi, target) + 1))


def test_beer_leaves_features_alone_that_obey_the_bellman_equation() -> None:
    # r = w . (phi - g phi') holds exactly, so with phi'_target = phi' no cosine exceeds its bound
    phi, following, w = normal(50, 3).requires_grad_(), normal(50, 3, seed=1), normal(1, 3, seed=2)
    reward = (phi - 0.9 * following).detach() @ w[0]
    value = beer(phi, following, following, reward, torch.full((50,), 0.9, dtype=torch.float64), w)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-15)
    assert (
        beer(phi, following, following, 3 * reward, torch.full((50,), 0.9, dtype=torch.float64), w)
        > 0.01
    )


def test_beer_counts_nothing_without_a_next_value() -> None:
    phi = normal(4, 3)
    assert beer(phi, phi, phi, torch.ones(4).double(), torch.zeros(4).double(), normal(1, 3)) == 0


def test_beer_of_several_actions_is_that_of_the_stacked_head() -> None:
    # phi(s) in the block of action 2: the same lengths and cosines, one head of length A D
    phi, following, head, reward = (
        normal(5, 3),
        normal(5, 3, seed=1),
        normal(4, 3, seed=2),
        9 * normal(5, seed=3),
    )

    def stacked(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (6, 3))

    g = torch.full((5,), 0.9).double()
    expected = beer(
        stacked(phi), stacked(following), stacked(following), reward, g, head.reshape(1, 12)
    )
    torch.testing.assert_close(beer(phi, following, following, reward, g, head), expected)


def test_beer_refuses_shapes_that_would_broadcast() -> None:
    one, g = torch.ones(4).double(), torch.full((4,), 0.9).double()
    with pytest.raises(ValueError, match=r"reward: expected \(4,\)"):
        beer(normal(4, 3), normal(4, 3), normal(4, 3), one[:1], g, normal(1, 3))
    with pytest.raises(ValueError, match=r"discount: expected \(4,\)"):
        beer(normal(4, 3), normal(4, 3), normal(4, 3), one, g[:1], normal(1, 3))
    with pytest.raises(ValueError, match="head_weight"):
        beer(normal(4, 3), normal(4, 3), normal(4, 3), one, g, normal(1, 1))


# --- shape of the feature matrix ---


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_srank_penalty_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    phi = normal(2, *shape)
    s = np.linalg.svd(phi.numpy(), compute_uv=False)
    np.testing.assert_allclose(srank_penalty(phi), s[:, 0] ** 2 - s[:, -1] ** 2, rtol=1e-12)
    assert torch.autograd.gradcheck(srank_penalty, phi.requires_grad_())


def test_srank_penalty_of_repeated_values_has_a_subgradient() -> None:
    # 2 I: sigma^2 = 4 three times, the penalty is 0 and the gradient 4 (v v^T - u u^T) for some orthonormal u, v
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
    phi = (
        normal(64, 8) @ torch.diag(10.0 ** torch.arange(0, -4, -0.5, dtype=torch.float64))
    ).float()
    exact = srank_penalty(phi.double())
    assert srank_penalty(phi).dtype == torch.float32
    assert srank_penalty(phi).item() == pytest.approx(exact.item(), rel=1e-7)


def test_pc_share_converges_to_the_first_components_share() -> None:
    phi = normal(3, 40, 5) * torch.tensor([4.0, 1, 1, 0.5, 0.1]) + 7.0  # the mean does not count
    variances = np.linalg.eigvalsh(np.stack([np.cov(x.T) for x in phi.numpy()]))
    u = torch.full((3, 5), 5**-0.5, dtype=torch.float64)
    shares = []
    for _ in range(60):
        share, u = pc_share(phi, u)
        shares.append(share)
    np.testing.assert_allclose(shares[-1], variances[:, -1] / variances.sum(-1), rtol=1e-9)
    assert (shares[0] < shares[-1]).all()
    torch.testing.assert_close(u.square().sum(-1), torch.ones(3, dtype=torch.float64))


def test_pc_share_by_hand_and_its_gradient_takes_u_as_given() -> None:
    phi = torch.tensor(
        [[1.0, 1.0], [-1.0, -1.0]], requires_grad=True
    )  # one direction: v = X^T X u = 2 [1, 1] for u = e_1
    share, moved = pc_share(phi, torch.tensor([1.0, 0.0]))
    assert share.item() == pytest.approx(8**0.5 / 4)  # |v| / |X|_F^2, below the true share of 1
    torch.testing.assert_close(moved, torch.full((2,), 0.5**0.5))
    assert not moved.requires_grad
    u = normal(2, 4, seed=3)
    assert torch.autograd.gradcheck(lambda x: pc_share(x, u)[0], normal(2, 6, 4).requires_grad_())


def test_pc_share_of_constant_features_is_zero_and_keeps_u() -> None:
    u = torch.tensor([0.6, 0.8])
    share, moved = pc_share(torch.ones(3, 2), u)
    assert share == 0
    assert torch.equal(moved, u)
    with pytest.raises(ValueError, match="u: expected"):
        pc_share(torch.ones(3, 2), torch.ones(3))


def network(weight: Tensor) -> Any:
    return SimpleNamespace(
        head=SimpleNamespace(weight=weight), named_parameters=lambda: [("head.weight", weight)]
    )


def test_pc_share_is_free_below_the_threshold_and_takes_one_step_a_call() -> None:
    term: Any = make_regularizer("pc_share", threshold=0.3)
    term.prepare(network(torch.zeros(2, 3, 4)), [0, 5])
    assert torch.equal(term.u, torch.full((2, 4), 0.5))
    ctx: Any = SimpleNamespace(features=normal(2, 30, 4).float())
    shares, u = [], term.u.clone()
    for _ in range(3):
        share, u = pc_share(ctx.features, u)
        shares.append(share)
        torch.testing.assert_close(term(ctx), torch.relu(share - 0.3))
        torch.testing.assert_close(term.u, u)
    saved = term.state_dict()
    again: Any = make_regularizer("pc_share", threshold=0.3)
    again.prepare(network(torch.zeros(2, 3, 4)), [0, 5])
    again.load_state_dict(saved)
    torch.testing.assert_close(again(ctx), term(ctx))


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
        c = np.cov(x.T, bias=True)
        expected.append(np.square(c).sum() - np.square(np.diag(c)).sum())
    np.testing.assert_allclose(feature_decorrelation(phi), expected, rtol=1e-10)
    assert torch.autograd.gradcheck(feature_decorrelation, phi.requires_grad_())
    assert feature_decorrelation(torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])) == 0
    assert (
        feature_decorrelation(torch.tensor([[1.0, 1], [-1, -1]])) == 2
    )  # both off-diagonal entries are 1


def test_infer_by_hand() -> None:
    heads, start = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    # predictions are phi, targets 10 phi0 under the swapped heads
    expected = ((PHI - 10 * start.flip(-1)) ** 2).mean()
    torch.testing.assert_close(infer(PHI, start, heads, heads.flip(0), 10.0), expected)
    with pytest.raises(ValueError, match="heads"):
        infer(PHI, start, heads, heads[:1], 10.0)


def test_infer_is_zero_at_the_start_and_its_heads_come_from_each_runs_seed() -> None:
    term: Any = make_regularizer("infer", heads=3, beta=1.0)
    term.prepare(network(torch.zeros(2, 2, 3, 4)), [7, 8])  # two runs of two critics
    alone: Any = make_regularizer("infer", heads=3, beta=1.0)
    alone.prepare(network(torch.zeros(1, 2, 3, 4)), [8])
    assert torch.equal(alone.heads[0], term.heads[1])
    assert not torch.equal(term.heads[0], term.heads[1])
    assert not torch.equal(term.heads[0, 0], term.heads[0, 1])
    assert term.heads.abs().max() <= 0.5
    phi = normal(2, 2, 5, 4).float()
    assert torch.equal(term(SimpleNamespace(features=phi, initial_features=phi)), torch.zeros(2))
    reset_like = torch.empty(24).uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(7))
    assert not torch.equal(
        reset_like, term.heads[0].flatten()
    )  # not the numbers that the network began with


def test_initial_features_are_those_before_training() -> None:
    torso = make_torso(Spec(obs_shape=(4,), n_actions=3), 2, "mlp", (8, 5), "relu", True)
    net = QNetwork(torso, 3, 2)
    reset_runs(net, [0, 1])
    learner = SimpleNamespace(
        online=net, initial={n: p.detach().clone() for n, p in net.named_parameters()}
    )
    obs = torch.randn(2, 6, 4)
    before = net.features(obs).detach()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    found = initial_features(learner, obs)
    assert torch.equal(found, before)
    assert not found.requires_grad
    assert not torch.equal(net.features(obs), before)


@pytest.mark.parametrize("options", [{"heads": 0}, {"heads": 2.5}, {"beta": float("nan")}])
def test_infer_refuses_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"infer: {next(iter(options))}"):
        make_regularizer("infer", **options)


# --- outputs ---


def test_spectral_decoupling_has_the_half_that_the_released_code_has_not() -> None:
    q = torch.tensor([[1.0, 3.0], [-2.0, 0.0]])
    assert spectral_decoupling(q) == 0.5 * q.square().mean() == 1.75
    assert spectral_decoupling(q, 1.0) == 0.5 * (0 + 4 + 9 + 1) / 4
    torch.testing.assert_close(
        spectral_decoupling(q.expand(3, 2, 2), torch.tensor([0.0, 1, 2])),
        torch.tensor([1.75, 1.75, 2.75]),
    )
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(2,\)"):
        spectral_decoupling(q, torch.zeros(2))


def test_spectral_decoupling_about_the_batch_mean_is_half_the_variance_and_leaves_the_mean_alone() -> (
    None
):
    q = (normal(2, 5, 3) + 100).requires_grad_()
    term = make_regularizer("spectral_decoupling", reference="batch_mean")
    value = term(SimpleNamespace(q_values=q))  # type: ignore[arg-type]
    np.testing.assert_allclose(
        value.detach(), q.detach().numpy().reshape(2, -1).var(1) / 2, rtol=1e-10
    )
    (grad,) = torch.autograd.grad(value.sum(), q)
    torch.testing.assert_close(grad.sum((1, 2)), torch.zeros(2).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, (q - q.mean((1, 2), keepdim=True)).detach() / 15)


@pytest.mark.parametrize("reference", ["zeros", "batch-mean", float("nan"), True, None])
def test_spectral_decoupling_refuses_other_references(reference: Any) -> None:
    with pytest.raises(InputError, match="spectral_decoupling: reference"):
        make_regularizer("spectral_decoupling", reference=reference)


# --- weights ---


def test_l2_and_l2_init_by_hand() -> None:
    parameters = {
        "w": torch.tensor([[[1.0, 2.0]], [[0.0, 3.0]]]),
        "b": torch.tensor([[1.0], [2.0]]),
    }
    initial = {"w": torch.ones(2, 1, 2), "b": torch.ones(2, 1)}
    assert torch.equal(l2(parameters, lead=1), torch.tensor([6.0, 13.0]))
    assert torch.equal(l2(parameters, initial, lead=1), torch.tensor([1.0, 6.0]))
    assert l2(parameters) == 19.0
    with pytest.raises(ValueError, match="for 'b', got none"):
        l2(parameters, {"w": initial["w"]})
    with pytest.raises(ValueError, match="at least one"):
        l2({})


def test_l2_is_half_of_torchs_weight_decay() -> None:
    net = nn.Linear(3, 2).double()
    twin = copy.deepcopy(net)
    torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.02).zero_grad()
    decayed = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.02)
    penalised = torch.optim.SGD(twin.parameters(), lr=0.1)
    x = normal(5, 3)
    net(x).square().mean().backward()
    (twin(x).square().mean() + 0.01 * l2(dict(twin.named_parameters()))).backward()
    decayed.step()
    penalised.step()
    for mine, yours in zip(twin.parameters(), net.parameters()):
        torch.testing.assert_close(mine, yours)


def test_path_norm_by_hand() -> None:
    first, second = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    head = torch.tensor([[2.0, -1.0]])
    assert neuron_products(first, second).tolist() == [5.0, 6.0]
    assert path_norm([first, second, head]) == 5 + 6 + (1 * 2 + 3 * 1)
    assert path_norm([second, head]) == 5
    for bad in ([head], [first, torch.ones(2, 3)], [first, torch.ones(2)]):
        with pytest.raises(ValueError, match="expected"):
            path_norm(bad)


def test_path_norm_takes_a_channel_for_a_unit() -> None:
    conv, dense = (
        normal(2, 3, 2, 3, 3),
        normal(2, 5, 3 * 4, seed=1),
    )  # 2 runs, 3 channels of 4 positions
    w = np.linalg.norm(conv.numpy().reshape(2, 3, -1), axis=-1)
    v = np.sqrt(np.square(dense.numpy().reshape(2, 5, 3, 4)).sum((1, 3)))
    np.testing.assert_allclose(path_norm([conv, dense], lead=1), (v * w).sum(-1), rtol=1e-12)
    following = normal(2, 4, 3, 3, 3, seed=2)
    v = np.sqrt(np.square(following.numpy()).sum((1, 3, 4)))
    np.testing.assert_allclose(path_norm([conv, following], lead=1), (v * w).sum(-1), rtol=1e-12)


def test_weight_decay_of_balanced_neurons_is_the_path_norm_and_never_less() -> None:
    w, b, v = normal(7, 3), normal(7, seed=1), normal(2, 7, seed=2)

    def decay(w: Tensor, v: Tensor) -> Tensor:
        return 0.5 * (w.square().sum() + v.square().sum())

    def outputs(w: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return torch.relu(normal(20, 3, seed=3) @ w.T + b) @ v.T

    for seed in range(5):
        c = normal(7, seed=10 + seed).exp()
        torch.testing.assert_close(outputs(c[:, None] * w, c * b, v / c), outputs(w, b, v))
        torch.testing.assert_close(path_norm([c[:, None] * w, v / c]), path_norm([w, v]))
        assert decay(c[:, None] * w, v / c) > path_norm([w, v])
    best = (torch.linalg.vector_norm(v, dim=0) / torch.linalg.vector_norm(w, dim=1)).sqrt()
    torch.testing.assert_close(decay(best[:, None] * w, v / best), path_norm([w, v]))


def fit(penalty: Any, steps: int, mu: float) -> tuple[float, nn.Sequential]:
    """Fit a tent with two knots inside by a network 100 wide, full batch, with Adam."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None]
    y = torch.relu(x + 0.3) - 2 * torch.relu(x - 0.2)
    net = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1)).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        (loss + mu * penalty(net)).backward()
        optimizer.step()
    return loss.item(), net


def test_trained_with_the_path_norm_or_with_weight_decay_the_minimum_is_the_same() -> None:
    def path(net: Any) -> Tensor:
        return path_norm([net[0].weight, net[2].weight])

    def decay(net: Any) -> Tensor:
        return 0.5 * (net[0].weight.square().sum() + net[2].weight.square().sum())

    (_, plain), (error, net), (decayed_error, decayed) = (
        fit(penalty, 1500, mu) for penalty, mu in ((path, 0.0), (path, 1e-3), (decay, 1e-3))
    )
    count = [
        active_neurons(n[0].weight, n[2].weight, tol=1e-2).item() for n in (plain, net, decayed)
    ]  # type: ignore
    assert error == pytest.approx(decayed_error, rel=0.05)
    assert path(net).item() == pytest.approx(path(decayed).item(), rel=0.01)
    assert path(net).item() < 0.75 * path(plain).item()
    assert max(count[1:]) < 0.6 * count[0]
    assert decay(decayed).item() == pytest.approx(
        path(decayed).item(), rel=0.02
    )  # decay has balanced every neuron
    assert decay(net) > 2 * path(net)  # the path norm leaves their scales alone


def test_path_norm_refuses_a_network_without_hidden_layers() -> None:
    term: Any = make_regularizer("path_norm")
    with pytest.raises(
        InputError, match="path_norm: weights: expected those of at least two layers, got 1"
    ):
        term.prepare(network(torch.zeros(2, 3, 4)), [0, 1])


def test_active_neurons_by_hand() -> None:
    incoming = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]]).expand(2, 3, 2)
    outgoing = torch.tensor([[1.0, 5.0, 0.5]]).expand(2, 1, 3).clone()
    outgoing[1] *= 10
    assert active_neurons(incoming, outgoing).tolist() == [
        1,
        2,
    ]  # products 5, 0, 5e-4 and ten times that
    outgoing[1, 0, 0] = torch.nan
    assert active_neurons(incoming, outgoing).isnan().tolist() == [False, True]
