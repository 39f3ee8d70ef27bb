"""The experiments that look into trained networks: formulas by hand or a second way."""

import numpy as np
import pytest
import torch
from torch import Generator

from rlop.experiments import channel_pruning, shattering


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
    assert [len(kernel) for kernel in small[:-1]] == [12, 24, 24]


def test_the_channels_of_least_l1_norm_go_first():
    kernel = torch.arange(1.0, 5.0)[:, None, None, None].expand(4, 1, 3, 3).clone()
    kernel[0] *= -10  # sums of absolute weights 90, 18, 27, 36
    (kept,) = channel_pruning.channels([kernel, torch.zeros(1)], 0.5, "l1", Generator())
    assert kept.tolist() == [0, 3]


def test_bytes_of_a_network_by_hand():
    """4 (9 * 24 + 9 * 24 * 48 + 9 * 48 * 48 + 48 * 16 * 10)."""
    weights = channel_pruning.start(Generator().manual_seed(0))
    assert channel_pruning.size(weights) == 4 * (216 + 10_368 + 20_736 + 7_680)


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
