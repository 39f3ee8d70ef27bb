"""Expected score against online evaluations: enumeration, closed form, and the command."""

import itertools
import math

import numpy as np
import pytest
from helpers.report import record

from rlop.cli import main
from rlop.report.tuning import EXPLORATION, bandit, budget


def enumerated(scores, pulls):
    """The expectation over every tie and every draw, one after another."""
    low, high = min(map(min, scores)), max(map(max, scores))
    scaled = [[(x - low) / (high - low) for x in one] for one in scores]
    truth = [sum(one) / len(one) for one in scores]
    expected = np.zeros(pulls)

    def largest(values):
        return [k for k, value in enumerate(values) if value == max(values)]

    def follow(total, count, pull, chance):
        if pull == pulls:
            return
        index = [
            math.inf if n == 0 else t / n + math.sqrt(EXPLORATION * math.log(pull + 1) / n)
            for t, n in zip(total, count)
        ]
        arms = largest(index)
        for arm, drawn in itertools.chain.from_iterable(
            zip(itertools.repeat(arm), scaled[arm]) for arm in arms
        ):
            part = chance / len(arms) / len(scaled[arm])
            after, often = list(total), list(count)
            after[arm] += drawn
            often[arm] += 1
            means = [t / n if n else -math.inf for t, n in zip(after, often)]
            best = largest(means)
            expected[pull] += part * sum(truth[k] for k in best) / len(best)
            follow(after, often, pull + 1, part)

    follow([0.0] * len(scores), [0] * len(scores), 0, 1.0)
    return expected


def test_trials_agree_with_the_enumeration_of_all_that_can_happen():
    scores = [[1.0, 5.0], [0.5, 4.0], [3.5]]
    exact = enumerated(scores, 5)
    assert exact[0] == pytest.approx((3 + 2.25 + 3.5) / 3)
    found = budget(scores, 5, trials=20_000).score
    np.testing.assert_allclose(found, exact, atol=0.015)  # standard errors are below .005
    assert np.ptp(exact) > 0.1  # more than the tolerance


@pytest.mark.parametrize("subset", [0, 3])
def test_one_seed_each_is_the_best_of_as_many_without_replacement(subset):
    scores = [4.0, -1.0, 0.5, 9.0, 2.0]
    found = budget([[score] for score in scores], 7, subset, trials=20_000)
    assert np.isnan(found.low).all()
    for pull in range(1, 8):
        seen = min(pull, subset or 5)
        best = [max(chosen) for chosen in itertools.combinations(scores, seen)]
        assert found.score[pull - 1] == pytest.approx(np.mean(best), abs=0.09)
    if not subset:
        assert found.score[-1] == 9


def test_the_chosen_configuration_gets_better_and_scores_keep_their_unit(few_trials):
    rng = np.random.default_rng(0)
    scores = [list(mean + 20 * rng.normal(size=6)) for mean in (-300, -290, -280, -250)]
    found = budget(scores, 40, trials=500)
    means = [np.mean(one) for one in scores]
    assert found.score[0] == pytest.approx(np.mean(means), abs=10)
    assert found.score[-1] >= found.score[4] > found.score[1] > found.score[0]
    assert found.score[-1] == pytest.approx(max(means), abs=5)
    assert (found.low < found.score).all()
    assert (found.score < found.high).all()

    shifted = budget([[3 * x + 7 for x in one] for one in scores], 40, trials=500)
    np.testing.assert_allclose(shifted.score, 3 * found.score + 7, rtol=1e-9)


def test_equal_scores_are_no_division_by_zero():
    table = np.full((4, 2, 3), 5.0)
    counts = np.array([3, 2])
    assert (bandit(table, counts, 3, 0, np.random.default_rng(0)) == 5).all()


# ---- the command


@pytest.fixture
def few_trials(monkeypatch):
    """As many as a table of two digits needs."""
    monkeypatch.setattr("rlop.report.tuning.RESAMPLES", 40)
    monkeypatch.setattr("rlop.report.tuning.TRIALS_EACH", 10)


def sweep(folder):
    """Two agents, three learning rates and two seeds; the second agent's third rate diverges."""
    for agent, bonus in (("CQL", 0.0), ("DQN", 1.0)):
        hparams = [{"lr": lr, "seed": seed} for lr in (1, 2, 3) for seed in (0, 1)]
        values = np.array([1, 2, 30, 40, 5, 6]) + bonus
        if agent == "DQN":
            values[-2:] = math.nan
        rows = [(0, {"eval/return": values * 0}), (9, {"eval/return": values, "loss/td": values})]
        record(hparams, rows, folder / agent, agent={"name": agent}, data="x")
    return str(folder)


def printed(capsys, *arguments):
    assert main(["report", *arguments]) == 0
    return capsys.readouterr().out


def test_the_table_has_a_row_for_each_method(tmp_path, capsys, few_trials):
    runs = sweep(tmp_path)
    lines = printed(capsys, runs, "--bandit", "--by", "agent.name").splitlines()
    assert lines[0] == (
        "Return (reward per episode, higher is better): expected, after so many online evaluations"
    )
    header = "method configurations runs 1 2 4 8 16 32 64"
    assert lines[2].split() == header.split()
    names = [line.split()[0] for line in lines[3:5]]
    assert names == ["agent.name=CQL", "agent.name=DQN"]
    # The mean of all runs at first, and in the end that of the best rate.
    cells = lines[3].split()
    assert cells[1:3] == ["3", "6"]
    assert float(cells[3]) == pytest.approx(14, abs=1)
    assert lines[3].split("]")[-2].split("[")[0].split()[-1] == "35"
    assert lines[-1] == "2 diverged runs count as the lowest score of their task"


def test_without_methods_all_configurations_are_one(tmp_path, capsys, few_trials):
    lines = printed(capsys, sweep(tmp_path), "--bandit", "2").splitlines()
    assert lines[3].startswith("all configurations  6 ")
    assert "UCB1 over 2 configurations, drawn for each trial" in lines[5]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bandit", "-1"], "--bandit -1: expected a number of configurations"),
        (["--bandit", "--csv"], "and no other table"),
        (["--bandit", "--metrics", "loss/td"], "expected a score of which more is better"),
        (["--bandit", "--at", "stability"], "--at stability: expected one of"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, options, expected):
    assert main(["report", sweep(tmp_path), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
