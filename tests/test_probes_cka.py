"""Unbiased HSIC against its U-statistic; CKA's invariances; minibatches."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from rlop.probes import CKA, cka_matrix, unbiased_hsic


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def u_statistic(x: Tensor, y: Tensor) -> float:
    """Mean over all ordered quadruples of different rows of K_st (L_st + L_uv - 2 L_su)."""
    k, l = (x @ x.mT).numpy(), (y @ y.mT).numpy()  # noqa: E741
    terms = [
        k[s, t] * (l[s, t] + l[u, v] - 2 * l[s, u]) for s, t, u, v in permutations(range(len(x)), 4)
    ]
    return float(np.mean(terms))


@pytest.mark.parametrize("n", [4, 5, 7])
def test_hsic_is_the_u_statistic(n: int) -> None:
    x, y = gaussian(n, 3) + 2, gaussian(n, 5, seed=1).relu()
    y[:, 0] += x[:, 0]
    assert unbiased_hsic(x, y).item() == pytest.approx(u_statistic(x, y), rel=1e-10)


def test_mean_over_all_minibatches_is_the_hsic_of_all_rows() -> None:
    x, y = gaussian(7, 3), gaussian(7, 4, seed=1)
    y[:, :3] += x
    batches = [unbiased_hsic(x[list(rows)], y[list(rows)]) for rows in combinations(range(7), 4)]
    torch.testing.assert_close(torch.stack(batches).mean(), unbiased_hsic(x, y))


def test_independent_representations_have_no_hsic_on_average() -> None:
    x, y = gaussian(4000, 8, 3), gaussian(4000, 8, 3, seed=1)
    found = unbiased_hsic(x, y)
    assert abs(found.mean().item()) < 4 * found.std().item() / 4000**0.5


def test_a_representation_is_aligned_with_its_rotations_and_multiples() -> None:
    x = gaussian(20, 6).relu()
    rotation = torch.linalg.qr(gaussian(6, 6, seed=1)).Q
    found = cka_matrix([x, x, x @ rotation, 7 * x, x + 3])
    torch.testing.assert_close(found, torch.ones(5, 5, dtype=torch.float64))
    stretched = x * torch.tensor([10.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert cka_matrix([x, stretched])[0, 1] < 0.95  # not invariant to any linear map
    other = gaussian(20, 6, seed=2)
    torch.testing.assert_close(
        cka_matrix([x @ rotation, other])[0, 1], cka_matrix([x, other])[0, 1]
    )


def test_matrix_is_its_formula_for_runs_and_widths() -> None:
    layers = [gaussian(3, 10, width, seed=width) for width in (2, 5, 9)]
    layers[1][..., :2] += layers[0]
    found = cka_matrix(layers)
    assert found.shape == (3, 3, 3)
    for r in range(3):
        for i in range(3):
            for j in range(3):
                h = [unbiased_hsic(layers[k][r], layers[m][r]) for k, m in ((i, j), (i, i), (j, j))]
                torch.testing.assert_close(found[r, i, j], h[0] / (h[1] * h[2]).sqrt())


def test_minibatches_accumulate_and_the_rest_is_left_out() -> None:
    x, y = gaussian(11, 3), gaussian(11, 3, seed=1)
    y += x
    streamed = CKA()
    for start in (0, 5):
        streamed.add([x[start : start + 5], y[start : start + 5]])
    torch.testing.assert_close(cka_matrix([x, y], batch_size=5), streamed.matrix)
    expected = (unbiased_hsic(x[:5], y[:5]) + unbiased_hsic(x[5:10], y[5:10])) / 2
    torch.testing.assert_close(streamed.hsic[0, 1], expected)


def test_between_runs() -> None:
    features = torch.stack(
        [gaussian(30, 4), gaussian(30, 4) @ torch.linalg.qr(gaussian(4, 4, seed=3)).Q]
    )
    torch.testing.assert_close(
        cka_matrix(features.unbind(0)), torch.ones(2, 2, dtype=torch.float64)
    )


def test_constant_or_broken_features_have_no_alignment() -> None:
    found = cka_matrix([torch.ones(8, 3), gaussian(8, 3), gaussian(8, 3).fill_(torch.nan)])
    assert found.isnan().tolist() == [[True, True, True], [True, False, True], [True, True, True]]


def test_errors() -> None:
    with pytest.raises(ValueError, match="n >= 4"):
        unbiased_hsic(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="same rows"):
        unbiased_hsic(torch.ones(5, 2), torch.ones(6, 2))
    with pytest.raises(ValueError, match="same rows"):
        CKA().add([torch.ones(5, 2), torch.ones(6, 2)])
    with pytest.raises(ValueError, match="at least one minibatch"):
        _ = CKA().matrix
    with pytest.raises(ValueError, match="batch_size = 3"):
        cka_matrix([torch.ones(5, 2)], batch_size=3)
    with pytest.raises(ValueError, match="at least one"):
        cka_matrix([])
    found = CKA()
    found.add([gaussian(5, 2)])
    with pytest.raises(ValueError, match="as before"):
        found.add([gaussian(5, 2), gaussian(5, 2)])
