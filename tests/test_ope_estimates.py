"""Values of policies from data: behavior, importance weights, models that did not see the data."""

import dataclasses

import numpy as np
import pytest
from helpers.envs import uniform_policy

from rlop import ope
from rlop.data.dataset import Dataset
from rlop.data.formats.generate import generate
from rlop.envs import chain, epsilon_greedy, optimal_q, policy_return
from rlop.experiments import ope_page, ope_study
from rlop.ope.estimates import cross_fitted
from rlop.ope.fqe import FQEOptions
from rlop.report.comparisons import spearman
from rlop.types import InputError

GAMMA = 0.8
TINY = {"hidden": (8,), "batch_size": 16, "lr": 1e-2, "steps": 20, "gamma": GAMMA}


@pytest.fixture(scope="module")
def rolled():
    """A chain, data of a policy that is random half of the time, and its probabilities."""
    mdp = chain(5)
    q = optimal_q(mdp, GAMMA)
    columns = generate(mdp, 600, epsilon=0.5, gamma=GAMMA, max_episode_steps=20, seed=2)
    data = Dataset.from_arrays(
        columns["observations"],
        columns["actions"],
        columns["rewards"],
        columns["terminals"],
        columns["timeouts"],
        columns["next_observations"],
        n_actions=2,
        name="walks",
    )
    return mdp, data, epsilon_greedy(q, 0.5)[columns["infos/state"]]


def tables_of(mdp):
    return np.stack([epsilon_greedy(optimal_q(mdp, GAMMA), 0.3), uniform_policy(mdp)])


# ---- behavior


def test_counted_behavior_is_the_frequency_of_the_actions(rolled):
    mdp, data, _ = rolled
    found = ope.behavior_at(data, "counts")
    for state in mdp.observations[~mdp.terminal]:
        rows = (data.obs == state).all(1)
        share = np.bincount(data.action[rows], minlength=2) / rows.sum()
        np.testing.assert_allclose(found[rows], np.tile(share, (rows.sum(), 1)), rtol=1e-6)


def test_cloned_behavior_comes_near_to_the_known_one(rolled):
    _, data, known = rolled
    found = ope.behavior_at(data, {"bc": {"steps": 40, "hidden": [16], "lr": 0.05}})
    assert np.abs(found - known).max() < 0.25
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    # Terminal rows have an action, too.
    assert np.abs(found[data.terminated] - known[data.terminated]).max() < 0.25


def test_behavior_that_cannot_be_is_refused(rolled):
    _, data, known = rolled
    one = np.eye(2)[data.action]
    for behavior, message in (
        (known[:5], r"behavior: probabilities of shape \(5, 2\), expected \(600, 2\)"),
        (2 * known, "row 0 sums to 2, expected probabilities"),
        (1 - one, "behavior: probability 0 of action . in row 0, which the data took"),
        ("known", "expected its probabilities"),
        ("cuonts", "behavior 'cuonts': unknown, did you mean 'counts'"),
    ):
        with pytest.raises(InputError, match=message):
            ope.behavior_at(data, behavior)
    vectors = Dataset.from_arrays(
        data.obs, known, data.reward, data.terminated, data.truncated, data.next_obs
    )
    with pytest.raises(InputError, match="importance weights need discrete actions"):
        ope.behavior_at(vectors, "counts")


# ---- importance


def test_the_behavior_itself_is_worth_the_returns_of_the_data(rolled):
    mdp, data, known = rolled
    policies = ope.policies_of_tables(mdp, epsilon_greedy(optimal_q(mdp, GAMMA), 0.5)[None])
    first = np.append(0, data.episode_ends[:-1] + 1)
    whole = data.subset(np.arange(len(data)) < first[-1])  # without the last episode, which is cut
    exact = np.mean(
        [
            (GAMMA ** np.arange(stop - start + 1) * whole.reward[start : stop + 1]).sum()
            for start, stop in zip(first, whole.episode_ends)
        ]
    )
    for weighted in (False, True):
        (found,) = ope.importance(
            policies, whole, known[: len(whole)], gamma=GAMMA, weighted=weighted
        )
        assert found.value == pytest.approx(exact, rel=1e-5)
        assert found.low < exact < found.high


def test_other_policies_are_valued_within_their_intervals(rolled):
    mdp, data, known = rolled
    tables = tables_of(mdp)
    policies = ope.policies_of_tables(mdp, tables)
    for weighted in (False, True):
        found = ope.importance(policies, data, known, gamma=GAMMA, weighted=weighted)
        for estimate, table in zip(found, tables):
            assert estimate.low < policy_return(mdp, table, GAMMA) < estimate.high
    with pytest.raises(InputError, match=r"gamma = 1\.5: expected"):
        ope.importance(policies, data, known, gamma=1.5)


# ---- doubly robust


def test_an_episode_has_no_part_in_its_own_model(rolled):
    mdp, data, _ = rolled
    policies = ope.policies_of_tables(mdp, tables_of(mdp))
    reward = data.reward.copy()
    reward[0] -= 0.5  # the unit, the largest return, stays the same
    other = dataclasses.replace(data, reward=reward)

    options = FQEOptions(**TINY)
    before, after = (cross_fitted(policies, one, options) for one in (data, other))
    own = np.arange(len(data)) <= data.episode_ends[0]
    np.testing.assert_array_equal(before.taken[:, own], after.taken[:, own])
    np.testing.assert_array_equal(before.then[:, own], after.then[:, own])
    assert not np.allclose(before.taken, after.taken)
    assert before.now.shape == (2, len(data))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_poor_model_is_corrected(rolled, weighted):
    mdp, data, known = rolled
    tables = tables_of(mdp)
    policies = ope.policies_of_tables(mdp, tables)
    model = ope.fitted_q(policies, data, resamples=0, **TINY)
    found = ope.doubly_robust(policies, data, known, weighted=weighted, **TINY)
    for table, poor, estimate in zip(tables, model, found):
        truth = policy_return(mdp, table, GAMMA)
        assert estimate.low < truth < estimate.high
        assert abs(estimate.value - truth) < abs(poor.value - truth)


def test_what_cannot_be_corrected_is_refused(rolled):
    mdp, data, known = rolled
    policies = ope.policies_of_tables(mdp, tables_of(mdp))
    one = data.subset(np.arange(len(data)) <= data.episode_ends[0])
    with pytest.raises(InputError, match="walks: doubly_robust: one episode, expected at least 2"):
        ope.doubly_robust(policies, one, known[: len(one)], **TINY)
    with pytest.raises(InputError, match="doubly_robust: unknown key 'stepz'"):
        ope.doubly_robust(policies, data, known, stepz=3)


# ---- the study


def test_a_record_is_read_as_it_was_written(tmp_path, monkeypatch):
    calls = []

    def study(seed):
        calls.append(seed)
        return [1.0, 2.0], {"FQE": [ope.Estimate(0.5, np.nan, np.nan), ope.Estimate(3.0, 2.0, 4.0)]}

    monkeypatch.setitem(ope_study.STUDIES, "gridworld", study)
    path = tmp_path / "records.jsonl"
    for _ in range(2):
        ope_study.decide(path, {"gridworld": [7]}, say=lambda line: None)
    assert calls == [7]
    (record,) = ope_study.read(path)
    assert record["truth"] == [1.0, 2.0]
    assert record["estimates"]["FQE"][1] == (3.0, 2.0, 4.0)
    assert np.isnan(record["estimates"]["FQE"][0].low)


@pytest.mark.slow
@pytest.mark.parametrize("study", ["gridworld", "pendulum"])
def test_fitted_values_rank_eight_policies(study):
    truth, found = ope_study.STUDIES[study](7)
    assert len(truth) == 8
    assert spearman([estimate.value for estimate in found["FQE"]], truth) >= 0.8


@pytest.mark.slow
def test_doubly_robust_intervals_hold_the_truth():
    held = []
    for seed in range(20, 40):
        truth, found = ope_study.cover_on_gridworld(seed)
        held.append(
            [low <= true <= high for (_, low, high), true in zip(found["doubly robust"], truth)]
        )
    assert np.mean(held) >= 0.85


def test_the_tables_are_made_from_the_records_that_decide():
    truth = [3.0, 2.0, 1.0]
    ranked = {"FQE": [ope.Estimate(value, np.nan, np.nan) for value in (30.0, 10.0, 20.0)]}
    held = {"IS": [ope.Estimate(3.5, 2.0, 4.0), ope.Estimate(2.0, 2.5, 3.0), ope.Estimate(1, 0, 2)]}
    records = [
        ope_study.Record(study="gridworld", seed=1001, seconds=1, truth=truth, estimates=ranked),
        ope_study.Record(study="gridworld", seed=1, seconds=1, truth=truth[::-1], estimates=ranked),
        ope_study.Record(study="coverage", seed=1001, seconds=1, truth=truth, estimates=held),
        ope_study.Record(study="coverage", seed=1002, seconds=1, truth=[9, 2.5, 1], estimates=held),
    ]
    page = ope_page.filled(f"before {ope_page.BEGIN} old {ope_page.END} after", records)
    assert page.startswith("before ")
    assert page.endswith(" after")
    assert "old" not in page
    assert "| gridworld, the truth exact | 1 | 0.500 | 0.500 |" in page
    # Errors of .5 and 5.5, of 0 and .5, of none.
    assert "| IS | 50.0%, 3.905 | 50.0%, 0.354 | 100.0%, 0.000 |" in page
    assert ope_page.filled(page, records) == page
