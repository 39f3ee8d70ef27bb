"""Formulas of the experiments on what networks represent, by hand or by a second way."""

import pytest
import torch

from rlop.experiments import class_variance


def test_the_mean_distance_within_a_class_by_hand():
    """Points 0, 3, 4 on a line are 3, 4 and 1 apart, in every class; scaled by 2 in the other run."""
    y = torch.arange(10).repeat_interleave(3)
    features = torch.tensor([0.0, 3.0, 4.0]).repeat(10)[None, :, None]
    distances = class_variance.class_distances(torch.cat([features, 2 * features]), y)
    assert distances[0].tolist() == pytest.approx([8 / 3] * 10)
    assert distances[1].tolist() == pytest.approx([16 / 3] * 10)
