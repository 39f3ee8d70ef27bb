"""The study of DR3: its records, how claims are judged, its page, and its own penalty."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.training import parameters_of
from rlop.agents import DQN

import rlop
from rlop.experiments import (
    atlas_study,
    doctor_study,
    dr3_claims,
    dr3_page,
    dr3_study,
    ope_study,
    returns_study,
)
from rlop.experiments.dr3_claims import CONTRADICTED, HOLDS, UNDECIDED, Answer
from rlop.experiments.dr3_settings import EVERYONE, REPORTING, SOURCES, Setting, settings
from rlop.experiments.dr3_study import Record, Records
from rlop.experiments.noisy_dr3 import label_noise_spread
from rlop.types import InputError

POINTS = 13


def record(name, **arms):
    """A record in which every run of an arm has one return and one of all else, plus its seed."""
    runs = [(arm, seed) for arm in arms for seed in EVERYONE]
    wobble = np.array([seed % 7 for _, seed in runs]) * 1e-3
    level = np.repeat(list(arms.values()), len(EVERYONE))
    rising = np.linspace(0.1, 1, POINTS)[:, None]
    curves = {"eval/return": rising * (level + wobble)}
    for metric in ("feature/dot", "feature/cosine", "rank/srank", "rank/effective_rank", "q/data"):
        curves[metric] = np.ones((POINTS, 1)) * (level + wobble)
    listed = {metric: values.tolist() for metric, values in curves.items()}
    return Record(name, runs, list(range(POINTS)), listed, 100, 1.0)


def both(first, second):
    return Records({one.setting: one for one in (first, second)})


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((0.1, 0.2, 0.15), HOLDS), ((-0.1, -0.2, -0.15), CONTRADICTED), ((-1, 1, 0.1), UNDECIDED)],
)
def test_the_interval_decides(values, verdict):
    assert Answer("grid", "a difference", values, low=0).verdict == verdict


def test_a_missing_number_decides_nothing():
    assert Answer("grid", "a difference", (0.1, math.nan, 0.2), low=0).verdict == UNDECIDED


def test_the_tuning_seeds_choose_the_coefficient_and_do_not_report():
    arms = {"plain": 1.0, "dr3 0.01": 1.2, "dr3 0.1": 1.5}
    made = record("grid CQL", **arms)
    assert dr3_claims.best_dr3(made) == "dr3 0.1"

    spoilt = np.array(made.curves["eval/return"])
    for i, (arm, seed) in enumerate(made.runs):
        if arm == "dr3 0.01" and seed not in REPORTING:
            spoilt[:, i] = 9.0
    made.curves["eval/return"] = spoilt.tolist()
    assert dr3_claims.best_dr3(made) == "dr3 0.01"
    average = dr3_claims.scores(made, "dr3 0.01")["average"]
    assert average.max() < 2
    assert len(average) == len(REPORTING)


def test_performance_is_paired_with_the_plain_agent_of_the_same_seed():
    records = Records({"grid CQL": record("grid CQL", **{"plain": 1.0, "dr3 0.1": 1.5})})
    average, final, drop = dr3_claims.performance(records)
    returns = np.linspace(0.1, 1, POINTS)[1:]
    np.testing.assert_allclose(average.values, 0.5 * returns.mean(), rtol=1e-6)
    np.testing.assert_allclose(final.values, 0.5 * returns[-2:].mean(), rtol=1e-6)
    assert (average.verdict, final.verdict) == (HOLDS, HOLDS)
    assert drop.verdict == CONTRADICTED  # what rises to a higher peak loses more from it
    (rank,) = dr3_claims.rank_kept(records)
    assert rank.verdict == HOLDS


def test_the_srank_penalty_is_chosen_among_as_many_coefficients():
    records = Records({"grid CQL": record("grid CQL", **{"plain": 1.0, "dr3 0.1": 1.5})})
    assert dr3_claims.against_srank(records) == []
    for coef, level in ((1e-4, 1.0), (1e-3, 2.0), (1e-2, 1.0), (1e-1, 0.5)):
        one = record(f"grid CQL srank {coef:g}", **{f"srank {coef:g}": level})
        records.settings[one.setting] = one
    average, _ = dr3_claims.against_srank(records)
    assert "dr3 0.1 - srank 0.001" in average.measure
    assert average.verdict == CONTRADICTED


def test_out_of_sample_targets_are_compared_with_sarsa():
    records = both(record("CartPole max", plain=2.0), record("CartPole sarsa", plain=1.0))
    answers = {one.measure: one for one in dr3_claims.out_of_sample(records)}
    over = answers["dot product, max / sarsa"]
    assert over.verdict == HOLDS
    assert math.exp(over.interval[0]) == pytest.approx(2, rel=0.01)
    assert answers["max: dot product, end / half"].verdict == CONTRADICTED  # it stays
    assert answers["sarsa: dot product, end / half"].verdict == HOLDS


def test_records_are_read_as_written_and_the_page_has_every_claim(tmp_path):
    records = Records({"grid CQL": record("grid CQL", **{"plain": 1.0, "dr3 0.1": 1.5})})
    records.drifts["max", 101] = {"cosine": 0.99, "cosine, supervised part alone": 0.7}
    records.drifts["max", 102] = {"cosine": 0.98, "cosine, supervised part alone": 0.8}
    dr3_study.write(records, tmp_path / "r.jsonl")
    again = dr3_study.read(tmp_path / "r.jsonl")
    assert again == records

    page = dr3_page.filled(
        "# DR3\n<!-- tables -->STALE<!-- /tables -->\nend\n", dr3_page.tables(again)
    )
    assert page.startswith("# DR3\n<!-- tables -->")
    assert page.endswith("<!-- /tables -->\nend\n")
    assert "STALE" not in page
    for claim in dr3_claims.CLAIMS:
        assert claim.title in page
    assert "| grid CQL | average return, dr3 0.1 - plain | 0.294 |" in page
    dr3_page.draw(again, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


@pytest.mark.parametrize("line", ["{", "3", json.dumps({"seed": 1}), json.dumps({"drift": 1})])
@pytest.mark.parametrize(
    "study",
    [atlas_study, doctor_study, dr3_study, ope_study, returns_study],
    ids=lambda study: study.__name__.rpartition(".")[2],
)
def test_a_damaged_record_of_any_study_is_one_line(study, tmp_path, line):
    (tmp_path / "r.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"r\.jsonl: line 1: expected a"):
        study.read(tmp_path / "r.jsonl")


def test_a_setting_trains_and_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(dr3_study, "POINTS", 2)
    monkeypatch.setattr(dr3_study, "GRAIN", 2)
    arms = {"plain": {}, "dr3 0.1": {"regularizers.dr3": 0.1}}
    options = {"hidden": (8,), "batch_size": 4, "regularizers": {"dr3": 0.0}}
    setting = Setting("noisy grid", "DQN", arms, options, steps=4, seeds=(1, 2))
    made = dr3_study.run_setting("small", setting, tmp_path)
    assert made.steps == [0, 2, 4]
    assert made.runs == [("plain", 1), ("plain", 2), ("dr3 0.1", 1), ("dr3 0.1", 2)]
    assert made.of("feature/dot", "dr3 0.1", (1, 2)).shape == (3, 2)
    assert made.of("eval/return", "plain", (2,)).shape == (3, 1)


def test_every_setting_names_a_source_and_arms_of_its_agent():
    data = rlop.load_dataset(SOURCES["grid"].read.replace("4000", "40"))
    for name, setting in settings().items():
        assert setting.source in SOURCES, name
        if setting.source == "grid":
            options = {**SOURCES["grid"].options, **setting.options, "hidden": (4,)}
            agent = DQN(data.spec, seeds=setting.seeds, variants=setting.arms, **options)
            assert len(agent.runs) == len(setting.arms) * len(setting.seeds)


def test_the_spread_of_label_noise_is_the_sum_over_steps():
    torch.manual_seed(0)
    a, b = torch.rand(6, 9).double(), 0.9 * torch.rand(6, 9).double()
    drift = (a - b) @ a.mT
    step = torch.eye(6).double() - drift / drift.norm()
    expected, power = torch.zeros(6, 6).double(), torch.eye(6).double()
    for _ in range(64):
        expected += power @ power.mT
        power = step @ power
    expected *= (a * a).sum() / (a @ a.mT @ expected @ a @ a.mT).trace()
    torch.testing.assert_close(label_noise_spread(a, b), expected)


def test_the_penalty_under_label_noise_trains(tiny):
    def trained(**regularizers):
        agent = DQN(tiny.spec, hidden=(8,), batch_size=8, regularizers=regularizers)
        rlop.train(agent, tiny, 3, progress=False)
        return torch.cat([p.flatten() for p in parameters_of(agent).values()])

    noisy = trained(**{"rlop.experiments.noisy_dr3:NoisyDR3": 1.0})
    assert noisy.isfinite().all()
    assert not torch.equal(noisy, trained())
    assert not torch.equal(noisy, trained(dr3=1.0))
