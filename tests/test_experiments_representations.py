"""Formulas of the experiments on what networks represent, by hand or by a second way."""

import pytest
import torch
from torch import Generator

from rlop.experiments import class_variance, siblings
from rlop.nets import masks


def test_the_mean_distance_within_a_class_by_hand():
    """Points 0, 3, 4 on a line are 3, 4 and 1 apart, in every class; scaled by 2 in the other run."""
    y = torch.arange(10).repeat_interleave(3)
    features = torch.tensor([0.0, 3.0, 4.0]).repeat(10)[None, :, None]
    distances = class_variance.class_distances(torch.cat([features, 2 * features]), y)
    assert distances[0].tolist() == pytest.approx([8 / 3] * 10)
    assert distances[1].tolist() == pytest.approx([16 / 3] * 10)


def test_combined_masks_have_the_density_that_was_asked_for():
    weights = {"a": torch.randn(4, 20, 30, generator=Generator().manual_seed(0))}
    joint = siblings.combined(weights, 4, masks.union)
    common = siblings.combined(weights, 4, masks.intersection)
    for result in (joint, common):
        assert masks.density(result).item() == pytest.approx(siblings.FINAL_DENSITY, abs=0.005)
    # A weight that all four runs prune is in no union, one that all keep in every intersection.
    smallest = weights["a"].abs().amax(0).flatten().argmin()
    largest = weights["a"].abs().amin(0).flatten().argmax()
    assert not joint["a"].flatten()[smallest]
    assert common["a"].flatten()[largest]


def test_the_overlap_of_equal_and_of_disjoint_runs_by_hand():
    size = torch.arange(10.0).view(1, 2, 5)
    assert siblings.overlap({"w": torch.cat([size, -size])}) == pytest.approx(1)
    assert siblings.overlap({"w": torch.cat([size, size.flip(1, 2)])}) == pytest.approx(0)
