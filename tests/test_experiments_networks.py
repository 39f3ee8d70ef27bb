"""The experiments that look into trained networks: formulas by hand or a second way."""

import numpy as np
import pytest
import torch
from torch import Generator

from rlop.experiments import (
    block_structure,
    channel_pruning,
    multiclass_margin,
    shattering,
    similar_samples,
)


def test_cutting_channels_and_masking_them_give_the_same_outputs():
    generator = Generator().manual_seed(0)
    weights = channel_pruning.start(generator)
    x = torch.rand(4, 64, generator=generator)
    kept = channel_pruning.channels(weights, 0.5, "l1", generator)
    small = channel_pruning.cut(weights, kept)
    masked = channel_pruning.mask(weights, kept)
    torch.testing.assert_close(
        channel_pruning.network(small, x), channel_pruning.network(masked, x)
    )
    assert [len(kernel) for kernel in small[:-1]] == [8, 16, 16]


def test_the_channels_of_least_l1_norm_go_first():
    kernel = torch.arange(1.0, 5.0)[:, None, None, None].expand(4, 1, 3, 3).clone()
    kernel[0] *= -10  # sums of absolute weights 90, 18, 27, 36
    (kept,) = channel_pruning.channels([kernel, torch.zeros(1)], 0.5, "l1", Generator())
    assert kept.tolist() == [0, 3]


def test_bytes_of_a_network_by_hand():
    """4 (9 * 16 + 9 * 16 * 32 + 9 * 32 * 32 + 32 * 16 * 10)."""
    weights = channel_pruning.start(Generator().manual_seed(0))
    assert channel_pruning.size(weights) == 4 * (144 + 4_608 + 9_216 + 5_120)


def test_the_fit_of_a_proportionality_finds_its_weights():
    counts = np.array([shattering.parameters(*ranks) for ranks in shattering.NETWORKS])
    assert counts[0].tolist() == [15, 19]  # 1 * (6 + 10 - 1), 1 * (20 - 1)
    measured = shattering.measures(counts @ np.array([0.9, 0.6]))
    assert list(measured.values()) == pytest.approx([0, 0, 0], abs=1e-9)
    constant = shattering.measures(np.full(9, 40.0))
    assert constant["constant term, as a share of the mean"] == pytest.approx(1)


def test_padded_factors_have_their_rank():
    ranks = torch.tensor([[1, 3], [5, 8]])
    right, left, *_ = shattering.start(ranks, Generator().manual_seed(0))
    rank = torch.linalg.matrix_rank((right @ left).detach())
    assert rank.tolist() == [1, 5]


def test_important_weights_by_hand():
    """One sample, inputs (1, 2), slopes (3, 0): the weight 1 * 2 * 3 of the first row wins."""
    weight = torch.tensor([[1.0, 1.0], [9.0, 9.0]])
    use = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    marks = similar_samples.important(
        weight.repeat(1, 5), (use[0].repeat(1, 5), use[1]), torch.tensor([0])
    )
    assert marks.sum() == 2  # a tenth of 20
    assert not marks[1].any()
    assert not marks[0, ::2].any()


def test_the_slopes_of_the_logit_agree_with_autograd():
    generator = Generator().manual_seed(0)
    weights = [torch.randn(5, 4, generator=generator), torch.randn(3, 5, generator=generator)]
    x = torch.randn(6, 4, generator=generator)
    y = torch.arange(6) % 3
    (inputs, slopes), (hidden, _) = similar_samples.usage(weights, x, y)
    before = (x @ weights[0].T).requires_grad_()
    own = (before.relu() @ weights[1].T)[torch.arange(6), y]
    (expected,) = torch.autograd.grad(own.sum(), before)
    torch.testing.assert_close(slopes, expected.abs())
    torch.testing.assert_close(inputs, x.abs())
    torch.testing.assert_close(hidden, before.detach().relu())


def test_the_multiclass_svm_meets_its_margins_and_is_the_smallest():
    """In many dimensions it is the simplex solution; in few, every margin holds."""
    data = multiclass_margin.sample(400, 3.0, 0)
    x, labels = data.x[:1, :12], data.labels[:12]
    roads = multiclass_margin.solve(x, labels)
    torch.testing.assert_close(roads.multiclass, roads.least_squares, rtol=1e-4, atol=1e-6)

    low = multiclass_margin.sample(20, 3.0, 1)
    x = low.x[:1, :12]
    w = multiclass_margin.multiclass_svm(x, labels)
    scores = (x @ w.mT)[0]
    margins = scores.gather(1, labels[:, None]) - scores
    assert margins[margins != 0].min() > 1 - 1e-4
    other = multiclass_margin.solve(x, labels).least_squares
    assert w.norm() < other.norm()


def test_descent_on_cross_entropy_ends_at_the_svm_though_softmax_rounds_to_one(monkeypatch):
    monkeypatch.setattr(multiclass_margin, "STEPS", 1000)
    data = multiclass_margin.sample(60, multiclass_margin.length(60), 0)
    cosine, _ = multiclass_margin.limit(data, same_labels=True)
    assert cosine > 0.9995


def test_blocks_and_overlaps_by_hand():
    cka = torch.tensor([[[1.0, 0.5], [0.7, 1.0]]])
    assert block_structure.block(cka).item() == pytest.approx(0.6)
    a = torch.tensor([True, True, False])
    b = torch.tensor([True, False, True])
    assert block_structure.overlap(a, b).item() == 0.5


def test_the_points_of_a_stretched_direction_are_dominant():
    layer = torch.randn(1, 100, 3, generator=Generator().manual_seed(0))
    layer[0, :5, 1] += 50
    assert block_structure.dominant([layer])[0, 0].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]
