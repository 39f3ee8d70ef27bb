"""Agreement between runs, calibration of their votes, and distance from the data's habits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rlop.probes import (
    action_distance,
    action_shift,
    calibration,
    disagreement,
    nearest_center,
    other_runs,
)


def draw(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


# --- disagreement ---


def test_disagreement_by_hand() -> None:
    actions = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 1], [2, 1, 2, 0]])
    expected = [[0, 0.5, 0.25], [0.5, 0, 0.75], [0.25, 0.75, 0]]
    assert disagreement(actions).tolist() == expected
    assert other_runs(disagreement(actions)).tolist() == [0.375, 0.625, 0.5]
    # runs 0 and 2 are of one kind, run 1 is alone
    found = other_runs(disagreement(actions), torch.tensor([0, 1, 0]))
    assert found[[0, 2]].tolist() == [0.25, 0.25]
    assert found[1].isnan()


def test_a_broken_run_does_not_reach_its_neighbours() -> None:
    pairs = torch.tensor([[1.0, 0.5, torch.nan], [0.5, 1, torch.nan], [torch.nan] * 3])
    assert other_runs(pairs)[:2].tolist() == [0.5, 0.5]
    assert other_runs(pairs)[2].isnan()


def test_distance_of_continuous_actions() -> None:
    actions = torch.tensor([[[0.0, 0], [1, 0]], [[3, 4], [1, 0]]])
    assert action_distance(actions).tolist() == [[0, 2.5], [2.5, 0]]


# --- calibration ---


def twin(actions: np.ndarray, label: np.ndarray, n_actions: int) -> tuple[float, float, float]:
    runs, n = actions.shape
    share = np.stack([(actions == k).mean(0) for k in range(n_actions)], 1)
    differ = np.mean([(actions[i] != actions[j]).mean() for i in range(runs) for j in range(runs)])
    error = (actions != label).mean()
    gap = 0.0
    for level in range(runs + 1):
        at = np.isclose(share, level / runs)
        hits = (at & (label[:, None] == np.arange(n_actions))).sum() / n
        gap += abs(hits - level / runs * at.sum() / n)
    return float(differ), float(error), gap


@pytest.mark.parametrize("seed", range(4))
def test_calibration_against_its_definition_and_its_bound(seed: int) -> None:
    label = draw(3, 200, seed=seed)
    noisy = torch.rand(5, 200, generator=torch.Generator().manual_seed(seed)) < 0.2 * seed
    actions = torch.where(noisy, draw(3, 5, 200, seed=seed + 10), label)
    found = calibration(actions, label, 3)
    np.testing.assert_allclose(
        [x.item() for x in found], twin(actions.numpy(), label.numpy(), 3), atol=1e-12
    )
    assert abs(found.disagreement - found.error) <= found.gap + 1e-12
    pairs = disagreement(actions)
    torch.testing.assert_close(
        found.disagreement, pairs.mean()
    )  # with replacement, the diagonal counts


def test_a_calibrated_ensemble_errs_as_often_as_it_disagrees() -> None:
    # in every state two of four runs take each action, and the label is either one equally often
    actions = torch.tensor([[0], [0], [1], [1]]).expand(4, 10)
    label = torch.tensor([0, 1] * 5)
    found = calibration(actions, label, 2)
    assert [x.item() for x in found] == [0.5, 0.5, 0.0]
    wrong = calibration(actions, torch.zeros(10, dtype=torch.int64), 3)
    assert (
        wrong.gap == 0
    )  # class-aggregated: action 0 is right too often, action 1 too rarely, in sum neither


def test_a_sure_ensemble_that_is_wrong_is_not_calibrated() -> None:
    found = calibration(torch.zeros(3, 8, dtype=torch.int64), torch.ones(8, dtype=torch.int64), 2)
    assert found.disagreement == 0
    assert found.error == 1
    assert found.gap == 2  # shares 0 and 1 are each off by one


# --- distance from behaviour ---


def test_action_shift_by_hand() -> None:
    greedy = torch.tensor([0, 0, 0, 1, 1])
    behaviour = torch.tensor([0, 1, 1, 1, 1])
    cluster = torch.tensor([0, 0, 0, 2, 2])
    found = action_shift(greedy, behaviour, cluster, 2, 3)
    assert found.by_cluster[0].item() == pytest.approx(2 / 3)
    assert found.by_cluster[1].isnan()
    assert found.by_cluster[2] == 0
    assert found.total.item() == pytest.approx(2 / 3 * 3 / 5)


def test_a_policy_with_the_datas_distribution_has_no_shift_though_it_never_agrees() -> None:
    behaviour = torch.tensor([0, 1, 0, 1])
    found = action_shift(1 - behaviour, behaviour, torch.zeros(4, dtype=torch.int64), 2, 1)
    assert found.total == 0


def test_runs_side_by_side() -> None:
    greedy, behaviour, cluster = draw(3, 4, 50), draw(3, 4, 50, seed=1), draw(5, 4, 50, seed=2)
    many = action_shift(greedy, behaviour, cluster, 3, 5)
    for i in range(4):
        alone = action_shift(greedy[i], behaviour[i], cluster[i], 3, 5)
        torch.testing.assert_close(many.total[i], alone.total)
        torch.testing.assert_close(many.by_cluster[i], alone.by_cluster, equal_nan=True)


def test_nearest_center_takes_rows_at_equal_distances() -> None:
    states = torch.tensor([[0.0], [0.1], [10], [9.9], [0.2], [10.1]])
    assert nearest_center(states, 2).tolist() == [0, 0, 1, 1, 0, 1]  # centres: rows 0 and 3
    assert nearest_center(states.expand(2, 6, 1), 2).tolist() == [[0, 0, 1, 1, 0, 1]] * 2


def test_errors() -> None:
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
