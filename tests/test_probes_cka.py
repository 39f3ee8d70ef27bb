"""Unbiased HSIC against its U-statistic; CKA's invariances; minibatches."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from helpers.probes import gaussian, rotation

from rlop.probes import CKA, cka_matrix, unbiased_hsic


def u_statistic(x, y):
    """Mean over all ordered quadruples of different rows of K_st (L_st + L_uv - 2 L_su)."""
    kernel_x = (x @ x.mT).numpy()
    kernel_y = (y @ y.mT).numpy()
    terms = []
    for s, t, u, v in permutations(range(len(x)), 4):
        contrast = kernel_y[s, t] + kernel_y[u, v] - 2 * kernel_y[s, u]
        terms.append(kernel_x[s, t] * contrast)
    return np.mean(terms)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_hsic_is_the_u_statistic(n):
    x = gaussian(n, 3) + 2
    y = gaussian(n, 5, seed=1).relu()
    y[:, 0] += x[:, 0]
    assert unbiased_hsic(x, y).item() == pytest.approx(u_statistic(x, y), rel=1e-10)


def test_mean_over_all_minibatches_is_the_hsic_of_all_rows():
    x = gaussian(7, 3)
    y = gaussian(7, 4, seed=1)
    y[:, :3] += x
    batches = []
    for rows in combinations(range(7), 4):
        rows = list(rows)
        batches.append(unbiased_hsic(x[rows], y[rows]))
    torch.testing.assert_close(torch.stack(batches).mean(), unbiased_hsic(x, y))


def test_independent_representations_have_no_hsic_on_average():
    draws = 4000
    hsic = unbiased_hsic(gaussian(draws, 8, 3), gaussian(draws, 8, 3, seed=1))
    standard_error = hsic.std() / draws**0.5
    assert hsic.mean().abs() < 4 * standard_error


def test_a_representation_is_aligned_with_its_rotations_and_multiples():
    x = gaussian(20, 6).relu()
    rotated = x @ rotation(6, seed=1)
    aligned = cka_matrix([x, x, rotated, 7 * x, x + 3])
    torch.testing.assert_close(aligned, torch.ones(5, 5, dtype=torch.float64))

    other = gaussian(20, 6, seed=2)
    torch.testing.assert_close(cka_matrix([rotated, other]), cka_matrix([x, other]))


def test_cka_is_not_invariant_to_any_linear_map():
    x = gaussian(20, 6).relu()
    stretched = x.clone()
    stretched[:, 0] *= 10
    assert cka_matrix([x, stretched])[0, 1] < 0.95


def test_matrix_is_its_formula_for_runs_and_widths():
    layers = [gaussian(3, 10, width, seed=width) for width in (2, 5, 9)]
    layers[1][..., :2] += layers[0]
    matrix = cka_matrix(layers)
    assert matrix.shape == (3, 3, 3)
    for run, i, j in np.ndindex(3, 3, 3):
        x = layers[i][run]
        y = layers[j][run]
        scale = (unbiased_hsic(x, x) * unbiased_hsic(y, y)).sqrt()
        torch.testing.assert_close(matrix[run, i, j], unbiased_hsic(x, y) / scale)


@pytest.mark.parametrize("rows", [10, 11, 14])
def test_minibatches_accumulate_and_rows_that_do_not_fill_one_are_left_out(rows):
    # 10 rows are an exact multiple of the batch: both minibatches count.
    x = gaussian(rows, 3)
    y = gaussian(rows, 3, seed=1) + x
    streamed = CKA()
    streamed.add([x[:5], y[:5]])
    streamed.add([x[5:10], y[5:10]])

    torch.testing.assert_close(cka_matrix([x, y], batch_size=5), streamed.matrix)
    mean = (unbiased_hsic(x[:5], y[:5]) + unbiased_hsic(x[5:10], y[5:10])) / 2
    torch.testing.assert_close(streamed.hsic[0, 1], mean)


def test_a_batch_of_all_rows_is_all_rows_at_once():
    layers = [gaussian(8, 3), gaussian(8, 4, seed=1)]
    assert torch.equal(cka_matrix(layers, batch_size=8), cka_matrix(layers))


def test_runs_are_compared_along_the_first_axis():
    features = gaussian(30, 4)
    runs = torch.stack([features, features @ rotation(4, seed=3)])
    torch.testing.assert_close(cka_matrix(runs.unbind(0)), torch.ones(2, 2, dtype=torch.float64))


def test_constant_or_broken_features_have_no_alignment():
    constant = torch.ones(8, 3)
    broken = torch.full((8, 3), torch.nan)
    matrix = cka_matrix([constant, gaussian(8, 3), broken])
    is_defined = ~matrix.isnan()
    assert is_defined.nonzero().tolist() == [[1, 1]]


def test_shapes_are_checked():
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

    cka = CKA()
    cka.add([gaussian(5, 2)])
    with pytest.raises(ValueError, match="as before"):
        cka.add([gaussian(5, 2), gaussian(5, 2)])
