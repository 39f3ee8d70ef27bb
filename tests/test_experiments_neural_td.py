"""Neural TD on known processes: the norm of values, what is followed, the page of claims."""

import math

import numpy as np
import pytest

from rlop.experiments import neural_td_claims as claims
from rlop.experiments import neural_td_page as page
from rlop.experiments.neural_td_process import arcs, class_norm, off_policy, on_policy
from rlop.experiments.neural_td_runs import Followed, follow, samples_to_reach, slope

pytest.importorskip("scipy")


def on_circle(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], 1)


# --- the process ---


def test_the_norm_of_a_linear_value_is_the_length_of_its_slope_over_one_half():
    """V = b . x / 2 by v(w) = b, and no smaller v reaches the value of the state along b."""
    states = on_circle(0.3, 1.0, 2.2, 4.0, 0.0)
    b = np.array([3.0, 0.0])
    assert class_norm(states, states @ b / 2) == pytest.approx(3, rel=2e-3)


def test_values_of_a_bounded_v_have_at_most_its_norm():
    rng = np.random.default_rng(3)
    states = on_circle(*rng.uniform(0, 2 * np.pi, 7))
    share, active = arcs(states)
    v = rng.normal(size=(len(share), 2))
    v /= np.linalg.norm(v, axis=1, keepdims=True)

    value = np.einsum("a,as,ai,si->s", share, active.astype(float), v, states)
    norm = class_norm(states, value)
    assert 0.3 < norm <= 1.002
    assert class_norm(states, 5 * value) == pytest.approx(5 * norm)


def test_arcs_share_the_circle_and_every_state_is_active_on_half_of_it():
    share, active = arcs(on_circle(0.1, 0.7, 3.0))
    assert share.sum() == pytest.approx(1)
    np.testing.assert_allclose(share @ active, 0.5)


@pytest.mark.parametrize("make", [on_policy, off_policy])
def test_the_data_set_is_the_process(make):
    process = make(5)
    data = process.data()
    np.testing.assert_allclose(np.linalg.norm(process.states, axis=1).max(), 1)

    count = len(process.states)
    state = [np.abs(process.states - obs).sum(1).argmin() for obs in data.obs]
    following = [np.abs(process.states - obs).sum(1).argmin() for obs in data.next_obs]
    law = np.zeros((count, count))
    np.add.at(law, (state, following), 1 / (len(data) / count))
    np.testing.assert_allclose(law, process.transitions, atol=1e-9)
    for s in range(count):
        assert data.reward[np.array(state) == s].mean() == pytest.approx(
            process.reward[s], abs=1e-6
        )

    expected = process.reward + process.gamma * process.transitions @ process.value
    np.testing.assert_allclose(process.value, expected, atol=1e-12)


def test_on_policy_the_uniform_law_is_stationary_and_the_norm_as_asked():
    process = on_policy(2, norm=3)
    np.testing.assert_allclose(process.transitions.sum(0), 1)
    assert class_norm(process.states, process.value) == pytest.approx(3)


def test_off_policy_everything_leads_to_the_longest_state():
    process = off_policy(2)
    assert (process.transitions[:, 0] == 1).all()
    assert not process.value.any()
    np.testing.assert_allclose(np.linalg.norm(process.states[1:], axis=1), 0.5)


# --- what is followed ---


def test_settings_and_seeds_are_told_apart():
    process = on_policy(1)
    settings = {"slow": {"lr": 1e-6}, "fast": {"lr": 0.5, "radius": 0.2}}
    seen = follow(process, [4, 5, 6], settings, 40, every=10, width=8, projection="max_norm")
    assert seen.steps.tolist() == [10, 20, 30, 40]
    assert seen.averaged.shape == seen.last.shape == seen.travel.shape == (4, 2, 3)

    slow, fast = seen.setting("slow"), seen.setting("fast")
    scale = np.sqrt(np.square(process.value).mean())
    np.testing.assert_allclose(seen.averaged[:, slow], scale, rtol=1e-3)  # V = 0 at the start
    assert 0 < seen.travel[:, fast].max() <= 0.2 * (1 + 1e-5)
    assert seen.averaged[-1, fast].max() < scale
    alone = follow(process, [5], {"fast": settings["fast"]}, 40, every=40, width=8)
    np.testing.assert_allclose(alone.last[-1, 0, 0], seen.last[-1, fast, 1], rtol=1e-4)


def made_up(errors, travel=None):
    """Two settings named by their errors and one seed."""
    averaged = np.array(errors, float)[:, :, None]
    travel = averaged * 0 if travel is None else np.array(travel, float)[:, :, None]
    steps = np.arange(1, len(errors) + 1) * 100
    active = np.ones((2, 1), bool)
    return Followed(steps, averaged, averaged, averaged, travel, ("0.5", "0.1"), active)


def test_samples_to_an_error_by_hand():
    seen = made_up([[0.9, 0.9], [0.5, 0.9], [0.6, 0.9], [0.4, 0.2]])
    assert samples_to_reach(seen, "0.5", 0.5) == [200]
    assert np.isnan(samples_to_reach(seen, "0.1", 0.1))
    assert slope([1, 2, 4], np.array([[3.0], [12], [48]])) == pytest.approx([2])


def test_neurons_count_as_outside_only_before_the_error_is_reached():
    errors = [[0.9, 0.9], [0.5, 0.9], [0.1, 0.9]]
    seen = made_up(errors, travel=[[0, 0], [1, 1], [3, 3]])
    share = claims.share_outside(seen, [0.5, 0.1], [2, 2])
    assert share == [0.5]  # the first has arrived, the second has not


def test_the_error_over_its_bound_by_hand():
    seen = made_up([[0.9, 0.9]])
    bound = (1 + 2 * claims.RADIUS) / (0.1 * 0.5 * math.sqrt(100)) + 0.3
    looser = (1 + 2 * claims.RADIUS) / (0.5 * 0.5 * math.sqrt(100)) + 1.5
    ratio = claims.error_over_bound(seen, [0.5, 0.1], 0.5)
    assert ratio == pytest.approx(0.9 / min(bound, looser))


def test_steps_of_the_theory_shrink_as_the_square_and_without_a_ball_as_the_fourth_power():
    def ratio(kind):
        coarse, fine = (claims.theory_step(kind, eps, 0.5, 1e-3) for eps in (1e-3, 1e-4))
        return coarse / fine

    assert ratio("max_norm") == pytest.approx(100)
    small = claims.theory_step("free", 1e-5, 0.5, 1) / claims.theory_step("free", 1e-6, 0.5, 1)
    assert small == pytest.approx(1e4, rel=1e-4)


# --- the page ---


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.2, 1.21, 1.22], "holds"), ([0.9, 1.2], "undecided"), ([0.5, 0.51, 0.52], "fails")],
)
def test_verdicts(values, expected):
    assert page.verdict(values, low=1.05, high=math.inf) == expected
    assert page.verdict([1.1, math.nan], 1.05, math.inf) == "fails"


def test_every_part_is_judged_and_no_difference_fails():
    """Each part has a band, and equal arms are outside of those that compare."""
    rows = [row for claim in page.CLAIMS for row in claim.rows]
    judged = [row for row in rows if isinstance(row, page.Row)]
    assert {row.part for row in judged} == set(claims.plan())
    for row in judged:
        if " / max_norm" in row.measure or " / averaged" in row.measure:
            assert page.verdict([1.0, 1.0], row.low, row.high) == "fails", row.measure


def test_a_page_says_what_was_not_run_and_names_the_command():
    values = {"exponent": [3.0, 3.1], "largest error / bound": [0.5, 0.6]}
    record = {"part": "theory-max_norm", "seeds": [101, 102], "seconds": 60, "values": values}
    text = page.page([record])
    command = "`python scripts/claims.py neural-td --only theory-max_norm`"
    assert (
        f"| max_norm: exponent | 3.05 [2.41, 3.69] | at most 4 | {page.THEOREM} | holds | {command}"
        in text
    )
    assert "free: diverged | not run |" in text


def test_numbers_that_are_not_finite_are_counted():
    assert page.interval([math.nan, math.nan]) == "not within the run in 2 of 2"
    expected = "200 median of the others, not within the run in 1 of 3"
    assert page.interval([100, 300, math.nan]) == expected
