"""The Rank Atlas: its settings, a tiny training, its answers on runs that are made up, its page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlop.envs import gridworld
from rlop.experiments import atlas_collapse, atlas_page, atlas_questions, atlas_study
from rlop.experiments.atlas_questions import LEVELS
from rlop.experiments.atlas_settings import (
    PROBED,
    REPORTING,
    SOURCES,
    arms,
    balancing,
    following,
    trainings,
)
from rlop.experiments.atlas_study import Run
from rlop.types import InputError

DOCS = Path(__file__).parents[1] / "docs"
DATA = ("mixed grid", "narrow grid", "CartPole, good")


def made_up(rank_pays=1.0, norm_pays=0.0, seed=0):
    """Runs whose final return is known in terms of rank, norm and noise."""
    rng = np.random.default_rng(seed)
    runs = []
    for data in DATA:
        for agent in ("DQN", "CQL"):
            for arm in arms(agent, ("dr3", "l2"), {}):
                for number in REPORTING:
                    rank, norm, noise = rng.normal(size=3)
                    final = rank_pays * rank + norm_pays * norm + 0.1 * noise
                    runs.append(run_of(data, arm, number, final, rank + norm_pays * norm, norm))
    return runs


def run_of(data, arm, seed, final, rank, norm):
    floor = SOURCES[data].floor
    returns = [floor] + [floor + 10 + final] * 8
    values = {"rank/srank": rank, "rank/effective_rank": -rank, "feature/norm": norm}
    values |= {"feature/dot": 0.0, "units/dormant": 0.0, "agreement/disagreement": 0.0}
    probes = {name: [value] * len(PROBED) for name, value in values.items()}
    return Run(
        training=f"{data} DQN",
        data=data,
        agent=arm.agent,
        family=arm.family,
        strength=arm.strength,
        alpha=0.3 if arm.agent == "CQL" else 0.0,
        seed=seed,
        steps=8,
        seconds=1.0,
        diverged=False,
        returns=returns,
        fqe=final,
        probes=probes,
    )


# --- settings


def test_the_study_has_the_runs_that_were_asked_for():
    table = trainings()
    assert sum(len(one.arms) for one in table.values()) * len(REPORTING) >= 600
    assert min(REPORTING) > 200
    for training in table.values():
        names = [arm.name for arm in training.arms]
        assert len(set(names)) == len(names)
        assert SOURCES[training.source].steps % 8 == 0


def test_policies_that_collect_do_what_they_say():
    leaning = np.array([[0.0, 0, 0.1, 0], [0, 0, -0.1, 0], [0, 0, -0.1, 0.3]])
    assert balancing(leaning, np.random.default_rng(0)).tolist() == [1, 0, 1]

    frames = np.zeros((3, 10, 10, 4))
    frames[:, 9, 5, 0] = 1  # the paddle
    for number, column in enumerate((2, 5, 8)):
        frames[number, 4, column, 1] = 1  # the ball
    assert following(frames, np.random.default_rng(0)).tolist() == [1, 0, 2]


# --- a training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One tiny training with the pack of probes, and one without action values."""
    table = trainings()
    few = replace(table["mixed grid DQN"], arms=table["mixed grid DQN"].arms[:2])
    folder = tmp_path_factory.mktemp("data")
    source = SOURCES["mixed grid"]
    patch = pytest.MonkeyPatch()
    patch.setitem(SOURCES, "mixed grid", replace(source, fqe={**source.fqe, "steps": 2}))
    patch.setattr(atlas_study, "ROWS", 32)
    with patch.context():
        runs = atlas_study.run_training("mixed grid DQN", few, folder, seeds=[1, 2], steps=16)
        cloned = table["mixed grid BC"]
        runs += atlas_study.run_training("mixed grid BC", cloned, folder, seeds=[1], steps=16)
    patch.undo()
    return runs


def test_a_run_is_one_seed_of_one_configuration(trained):
    what = [(run.agent, run.family, run.strength, run.seed) for run in trained[:4]]
    plain, first = ("DQN", "plain", 0.0), ("DQN", "dr3", 0.001)
    assert what == [(*plain, 1), (*plain, 2), (*first, 1), (*first, 2)]
    assert [run.strength for run in trained[4:]] == [3e-4, 1e-3, 3e-3]


def test_a_run_has_its_curves(trained):
    for run in trained:
        assert len(run.returns) == 9
        assert None not in run.returns
        assert len(run.probes["rank/srank"]) == len(PROBED)
    first, cloned = trained[0], trained[-1]
    assert first.probes["kernel/min_eig"][0] is None
    assert None not in first.probes["kernel/min_eig"][1:]
    assert first.fqe is not None
    assert "kernel/min_eig" not in cloned.probes  # there are no values that it could measure


def test_the_exact_return_is_that_of_the_actions_taken():
    """Of three cells around a corner, two lie beside the start: one direction reaches the goal."""
    mdp = gridworld(2, walls=[(0, 0)], slip=0.0, observation="tabular")

    class Always:
        """Five runs, each with an action of its own in every state."""

        runs = range(5)

        def act(self, obs):
            return torch.arange(5)[:, None].expand(obs.shape[:2])

    returns = atlas_study.ExactReturn(mdp, horizon=10)(Always())["eval/return"]
    assert sorted(returns.tolist()) == [0, 0, 0, 0, 1]


def test_records_come_back_as_they_were(trained, tmp_path):
    path = tmp_path / "records" / "atlas.jsonl"
    atlas_study.write(trained, path)
    assert atlas_study.read(path) == trained
    assert atlas_study.read(tmp_path / "none.jsonl") == []

    path.write_text('{"training": "x"}\n')
    with pytest.raises(InputError, match="line 1: expected a run"):
        atlas_study.read(path)


# --- answers


def test_a_rank_that_pays_is_found_at_every_level():
    atlas = atlas_questions.atlas_of(made_up())
    ends = atlas_questions.ends(atlas)
    for level in LEVELS:
        assert ends["rank/srank", level].low > 0.8
        assert ends["rank/effective_rank", level].high < -0.8
        assert np.isnan(ends["feature/dot", level].value)  # a constant
    assert atlas_page.cell_signs(atlas) == (6, 0, 6)
    verdict = atlas_questions.verdict(atlas, "rank/srank")
    assert verdict.predicts(atlas.data)
    assert not verdict.predicts([*atlas.data, "another"])
    text = atlas_page.in_short(atlas)
    assert text.startswith("**Yes**")
    found = text.partition("after Holm's correction: ")[2].partition(".\n")[0]
    assert [part.split()[0] for part in found.split("; ")] == [
        "`rank/srank`",
        "`rank/effective_rank`",
    ]
    assert [found.count(f"({level})") for level in LEVELS] == [2, 2, 2, 2]
    best = atlas_questions.transferred(atlas, atlas_questions.RANKS)
    assert all(abs(one.here) > 0.8 for one in best)


def test_a_rank_that_only_follows_the_norm_is_nothing_once_it_is_held():
    atlas = atlas_questions.atlas_of(made_up(rank_pays=0.0, norm_pays=3.0))
    ends = atlas_questions.ends(atlas)
    assert ends["rank/srank", "regularizers"].low > 0.5
    held = atlas_questions.beyond_norm(atlas, "rank/srank", "regularizers")
    assert abs(held.value) < 0.2
    assert atlas_page.in_short(atlas).startswith("**No**")


def test_plain_runs_are_the_zero_of_every_regularizer():
    atlas = atlas_questions.atlas_of(made_up())
    rows, groups = atlas_questions.rows_at(atlas, "strengths")
    assert len(rows) == len(atlas.runs) + 6 * len(REPORTING)
    for group in np.unique(groups):
        families = [atlas.runs[row].family for row in rows[groups == group]]
        assert families.count("plain") == 4
        assert len(set(families)) == 2


def collapsing(runs):
    """Let every run with a high rank lose all it had after half of the training."""
    changed = []
    for number, run in enumerate(runs):
        high = run.probes["rank/srank"][0] > 0
        floor = run.returns[0]
        later = [floor] * 4 if high else run.returns[5:]
        diverged = number == 0
        changed.append(replace(run, returns=[*run.returns[:5], *later], diverged=diverged))
    return changed


def test_collapse_is_a_fall_by_half_or_a_divergence_and_is_foretold():
    runs = collapsing(made_up())
    atlas = atlas_questions.atlas_of(runs)
    high = np.array([run.probes["rank/srank"][0] > 0 for run in runs])
    high[0] = True
    np.testing.assert_array_equal(atlas_collapse.collapses(atlas), high)

    risk = atlas_collapse.at_risk(atlas)
    assert len(risk.rows) == len(runs)
    rank = atlas_collapse.warned(risk, atlas.probe("rank/srank", atlas_questions.NOW))
    assert rank.value > 0.95
    norm = atlas.probe("feature/norm", atlas_questions.NOW)
    assert atlas_collapse.warned_better(risk, atlas.probe("rank/srank"), norm).low > 0.2


def test_who_has_fallen_already_is_not_foretold():
    run = made_up()[0]
    early = replace(run, returns=[0, 10, *[0.1] * 7])
    late = replace(run, returns=[0, 1, 10, 10, 10, 10, 10, 0.1, 0.1])
    never = replace(run, returns=[0.0] * 9)
    atlas = atlas_questions.atlas_of([early, late, never])
    assert atlas_collapse.collapses(atlas).tolist() == [True, True, False]
    assert atlas_collapse.at_risk(atlas).rows.tolist() == [1]


def test_a_return_that_is_no_number_is_the_lowest():
    runs = made_up()
    same = np.array([run.data == runs[0].data for run in runs])
    runs[0] = replace(runs[0], returns=[*runs[0].returns[:7], None, None])
    atlas = atlas_questions.atlas_of(runs)
    assert atlas.final[0] == atlas.returns[same].min() < atlas.final[1:].min()
    assert len(atlas.runs) == len(runs)


# --- page


def test_the_page_is_filled_between_its_marks(tmp_path):
    runs = made_up()
    begin, end = atlas_page.TABLES
    text = f"before {atlas_page.SHORT[0]} {atlas_page.SHORT[1]} between {begin} old {end} after"
    page = atlas_page.filled(text, runs)
    assert page.startswith("before ")
    assert " between " in page
    assert page.endswith(" after")
    assert " old " not in page
    assert "168 runs on 3 data sets" in page
    assert atlas_page.filled(page, runs) == page

    pytest.importorskip("matplotlib")
    atlas_page.draw(runs, tmp_path / "atlas.png")
    assert (tmp_path / "atlas.png").stat().st_size > 1000


def test_the_published_tables_are_those_of_the_published_runs():
    runs = atlas_study.read(DOCS / "atlas.jsonl")
    if not runs:
        pytest.skip("no runs yet")
    page = (DOCS / "rank_and_return.md").read_text()
    assert atlas_page.filled(page, runs) == page
    assert {run.seed for run in runs} == set(REPORTING)
