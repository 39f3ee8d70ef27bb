"""Agreement between runs, calibration of their votes, and distance from the data's habits."""

import numpy as np
import pytest
import torch
from helpers.probes import whole_numbers

from rlop.probes import (
    action_distance,
    action_shift,
    calibration,
    disagreement,
    nearest_center,
    other_runs,
)

# --- disagreement ---


def test_disagreement_by_hand():
    actions = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 1], [2, 1, 2, 0]])
    pairs = disagreement(actions)
    assert pairs.tolist() == [[0, 0.5, 0.25], [0.5, 0, 0.75], [0.25, 0.75, 0]]
    assert other_runs(pairs).tolist() == [0.375, 0.625, 0.5]


def test_runs_are_compared_within_their_group_only():
    actions = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 1], [2, 1, 2, 0]])
    group = torch.tensor([0, 1, 0])
    mean = other_runs(disagreement(actions), group)
    assert mean[[0, 2]].tolist() == [0.25, 0.25]
    assert mean[1].isnan()  # alone


def test_a_broken_run_does_not_reach_its_neighbors():
    nan = torch.nan
    pairs = torch.tensor([[1.0, 0.5, nan], [0.5, 1, nan], [nan, nan, nan]])
    assert other_runs(pairs)[:2].tolist() == [0.5, 0.5]
    assert other_runs(pairs)[2].isnan()


def test_distance_of_continuous_actions():
    actions = torch.tensor([[[0.0, 0], [1, 0]], [[3, 4], [1, 0]]])
    assert action_distance(actions).tolist() == [[0, 2.5], [2.5, 0]]


# --- calibration ---


def calibration_by_loops(actions, label, n_actions):
    """Disagreement, error and gap by their definitions, in NumPy."""
    runs, n = actions.shape
    differ = []
    for i in range(runs):
        for j in range(runs):
            differ.append((actions[i] != actions[j]).mean())

    gap = 0.0
    votes = np.stack([(actions == k).sum(0) for k in range(n_actions)], 1)
    is_label = label[:, None] == np.arange(n_actions)
    for level in range(runs + 1):
        at_level = votes == level
        hits = (at_level & is_label).sum() / n
        gap += abs(hits - level / runs * at_level.sum() / n)

    error = (actions != label).mean()
    return [np.mean(differ), error, gap]


@pytest.mark.parametrize("seed", range(4))
def test_calibration_against_its_definition_and_its_bound(seed):
    label = whole_numbers(3, 200, seed=seed)
    is_noisy = whole_numbers(10, 5, 200, seed=seed) < 2 * seed
    actions = torch.where(is_noisy, whole_numbers(3, 5, 200, seed=seed + 10), label)

    measured = calibration(actions, label, 3)
    expected = calibration_by_loops(actions.numpy(), label.numpy(), 3)
    np.testing.assert_allclose(torch.stack(measured).numpy(), expected, atol=1e-12)
    assert abs(measured.disagreement - measured.error) <= measured.gap + 1e-12

    # Runs are drawn with replacement, so the diagonal counts.
    torch.testing.assert_close(measured.disagreement, disagreement(actions).mean())


def test_a_calibrated_ensemble_errs_as_often_as_it_disagrees():
    # In every state two of four runs take each action, and the label is either equally often.
    actions = torch.tensor([[0], [0], [1], [1]]).expand(4, 10)
    label = torch.tensor([0, 1] * 5)
    assert calibration(actions, label, 2) == (0.5, 0.5, 0.0)

    # Class-aggregated: action 0 is right too often, action 1 too rarely, in sum neither.
    always_zero = torch.zeros(10, dtype=torch.int64)
    assert calibration(actions, always_zero, 3).gap == 0


def test_a_sure_ensemble_that_is_wrong_is_not_calibrated():
    actions = torch.zeros(3, 8, dtype=torch.int64)
    label = torch.ones(8, dtype=torch.int64)
    # Shares 0 and 1 are each off by one.
    assert calibration(actions, label, 2) == (0, 1, 2)


# --- distance from behavior ---


def test_action_shift_by_hand():
    greedy = torch.tensor([0, 0, 0, 1, 1])
    behavior = torch.tensor([0, 1, 1, 1, 1])
    cluster = torch.tensor([0, 0, 0, 2, 2])
    shift = action_shift(greedy, behavior, cluster, 2, 3)
    assert shift.by_cluster[0].item() == pytest.approx(2 / 3)
    assert shift.by_cluster[1].isnan()
    assert shift.by_cluster[2] == 0
    assert shift.total.item() == pytest.approx(2 / 3 * 3 / 5)


def test_a_policy_with_the_datas_distribution_has_no_shift_though_it_never_agrees():
    behavior = torch.tensor([0, 1, 0, 1])
    cluster = torch.zeros(4, dtype=torch.int64)
    assert action_shift(1 - behavior, behavior, cluster, 2, 1).total == 0


def test_shift_of_a_run_alone_is_that_among_others():
    greedy = whole_numbers(3, 4, 50)
    behavior = whole_numbers(3, 4, 50, seed=1)
    cluster = whole_numbers(5, 4, 50, seed=2)
    together = action_shift(greedy, behavior, cluster, 3, 5)
    for run in range(4):
        alone = action_shift(greedy[run], behavior[run], cluster[run], 3, 5)
        torch.testing.assert_close(together.total[run], alone.total)
        torch.testing.assert_close(together.by_cluster[run], alone.by_cluster, equal_nan=True)


def test_nearest_center_takes_rows_at_equal_distances():
    states = torch.tensor([[0.0], [0.1], [10], [9.9], [0.2], [10.1]])
    assert nearest_center(states, 2).tolist() == [0, 0, 1, 1, 0, 1]  # centers: rows 0 and 3
    assert nearest_center(states.expand(2, 6, 1), 2).tolist() == [[0, 0, 1, 1, 0, 1]] * 2


def test_shapes_and_types_are_checked():
    whole = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="whole numbers"):
        disagreement(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="label"):
        calibration(whole, whole, 2)
    with pytest.raises(ValueError, match="one shape"):
        action_shift(whole, whole[0], whole, 2, 2)
    with pytest.raises(ValueError, match="n_clusters"):
        nearest_center(torch.zeros(2, 3), 3)
    with pytest.raises(ValueError, match="actions"):
        action_distance(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="pairs"):
        other_runs(torch.zeros(2, 3))
