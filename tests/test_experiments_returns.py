"""The study of returns: its records and page by hand, and one short training of a setting."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.data import steps_of
from helpers.experiments import ROOT

from rlop.experiments import returns_page, returns_study
from rlop.experiments.returns_page import Interval, verdict
from rlop.experiments.returns_settings import (
    LONGER,
    LONGER_SEEDS,
    SEEDS,
    SETTINGS,
    SOURCES,
    setting,
)
from rlop.experiments.returns_study import Behavior, Records, Training
from rlop.types import InputError


def training(source="hopper", title="BC", last=(10.0, 20.0, 30.0, 40.0), q=None):
    return Training(
        source=source,
        title=title,
        seeds=list(SEEDS),
        config={"batch_size": 64},
        transforms={},
        updates=64_000,
        cpu_seconds=90.0,
        steps=[0, 32_000, 64_000],
        returns=[[0.0] * 4, [0.0] * 4, list(last)],
        scores=[[0.0] * 4, [5.0] * 4, list(last)],
        q=q,
        value=50.0,
        versions={},
    )


def test_every_agent_trains_on_both_data_sets_with_a_preset_that_exists():
    pairs = [(one.source, one.agent) for one in SETTINGS]
    agents = {"BC", "TD3BC", "ReBRAC", "IQL", "CQL", "EDAC"}
    assert sorted(pairs) == sorted((source, agent) for source in SOURCES for agent in agents)
    assert [one.batch_size for one in SETTINGS if one.agent == "ReBRAC"] == [256, 256]
    assert {one.batch_size for one in SETTINGS if one.agent != "ReBRAC"} == {64}


def test_longer_trainings_have_more_updates_of_the_same_settings_and_seeds_of_their_own():
    settings = {(one.source, one.title): one for one in SETTINGS}
    for one in LONGER:
        shorter = settings[one.source, one.title]
        assert one.updates >= 4 * shorter.updates
        assert one.batch_size == 64
        assert replace(one, updates=shorter.updates, batch_size=shorter.batch_size) == shorter
    assert not set(SEEDS) & set(LONGER_SEEDS)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ((10, 5, 15), "below"),
        ((19, 18, 20), "level"),
        ((25, 19, 31), "level"),
        ((40, 23, 57), "above"),
        ((math.nan, math.nan, math.nan), "diverged"),
    ],
)
def test_intervals_that_overlap_are_level(agent, expected):
    assert verdict(Interval(*agent), Interval(21, 20, 22)) == expected


def test_a_row_by_hand():
    """Four seeds at 10 to 40: mean 25, sd 12.910, t(3) = 3.1824, half the width 20.54."""
    policy, trained = Interval(21, 20, 22), training(q=[5.0, 10.0, 15.0, 20.0])
    start = "| BC | 25.0 (4.5 to 45.5) | level | 5.0 | "
    end = " | 53.5 ± 1.8 | 64,000 | 1,000,000 | 1.5 | 0.25 |"
    assert returns_page.row(trained, None, policy) == f"{start}-{end}"
    corl = training(last=(20.0, 30.0, 40.0, 50.0))
    assert returns_page.row(trained, corl, policy) == f"{start}35.0 (14.5 to 55.5){end}"


LOW, HIGH = -20.272305, 3234.3  # D4RL's returns of Hopper that count as 0 and 100
PAGE = "Words.\n\n<!-- study -->\nold\n<!-- /study -->\nMore.\n<!-- longer --><!-- /longer -->."


def test_the_page_has_the_policy_and_the_agents_that_have_a_record():
    behavior = Behavior("hopper", 600, [LOW, HIGH])
    records = Records({"hopper": behavior}, {("hopper", "BC"): training()})
    page = returns_page.filled(PAGE, records, *[Records()] * 3)
    assert page.startswith("Words.\n\n<!-- study -->\n\n| hopper-medium-v2 |")
    assert "| the data's policy, 2 episodes | 50.0 (" in page
    assert "| BC | 25.0 (" in page
    assert "old" not in page
    assert "EDAC" not in page
    assert page.endswith("<!-- /longer -->.")
    assert returns_page.filled(page, records, *[Records()] * 3) == page


def test_a_longer_training_stands_below_the_one_that_decided():
    key, behavior = ("halfcheetah", "IQL"), Behavior("halfcheetah", 600, [0.0, 9000.0])
    short, long = (
        replace(training(*key, q=[25.0] * 4), updates=updates) for updates in (12_800, 51_200)
    )
    records = Records({"halfcheetah": behavior}, {key: short})
    page = returns_page.filled(PAGE, records, Records({}, {key: long}), Records(), Records())
    start = "| IQL, halfcheetah-medium-v2 |"
    end = "| 25.0 (4.5 to 45.5) | level | 5.0 | - | 1.5 | 0.50 |"
    assert f"{start} 64 | 12,800 {end}\n{start} 64 | 51,200 {end}" in page
    assert "TD3+BC" not in page


def test_the_published_tables_are_those_of_the_published_records():
    names = ("returns", "returns_longer", "returns_corl", "returns_corl_longer")
    records = [returns_study.read(ROOT / "docs" / f"{name}.jsonl") for name in names]
    assert len(records[0].trainings) == len(SETTINGS)
    page = (ROOT / "docs" / "returns.md").read_text()
    assert returns_page.filled(page, *records) == page


def test_an_episode_that_the_end_of_the_data_cut_is_no_return():
    whole = steps_of(5, terminated=False)
    assert returns_study.behavior_of("hopper", whole).returns == [5, 5, 5]
    cut = whole.subset(np.arange(12))
    assert returns_study.behavior_of("hopper", cut).returns == [5, 5]


def test_a_discounted_return_by_hand():
    """Two steps of reward 1 until the end: 1.99 from the first row, 1 from the second."""
    assert returns_study.discounted_return(steps_of(2, terminated=True)) == pytest.approx(1.495)


def test_records_are_read_as_written(tmp_path):
    path = tmp_path / "records.jsonl"
    records = Records({"hopper": Behavior("hopper", 6, [1.0])}, {("hopper", "BC"): training()})
    returns_study.write(records, path)
    assert returns_study.read(path) == records
    assert returns_study.read(tmp_path / "none.jsonl") == Records()

    path.write_text(path.read_text() + json.dumps({"title": "BC"}) + "\n")
    with pytest.raises(InputError, match="line 3: expected a record"):
        returns_study.read(path)


def test_what_has_a_record_is_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def run_setting(one, data):
        trained.append(one.title)
        return training(one.source, one.title)

    data = steps_of(5, terminated=True)
    monkeypatch.setattr(returns_study, "data_of", lambda name, folder: data)
    monkeypatch.setattr(returns_study, "run_setting", run_setting)
    path = tmp_path / "records.jsonl"
    some = [one for one in SETTINGS if one.source == "hopper"][:2]
    returns_study.decide(path, tmp_path, some[:1], say=lambda line: None)
    records = returns_study.decide(path, tmp_path, some, say=lambda line: None)
    assert trained == ["BC", "TD3+BC"]
    assert returns_study.read(path) == records


def test_a_training_plays_at_half_time_and_at_the_end(monkeypatch):
    def evaluator(agent, env_id, env_kwargs, episodes):
        return lambda agent: {"eval/return": np.array([-20.272305, 3234.3])}

    monkeypatch.setattr(returns_study, "make_evaluator", evaluator)
    one = setting("hopper", "TD3BC", "td3bc/corl", {"normalize_obs": {}}, updates=4)
    one = replace(one, batch_size=4, options={**one.options, "hidden": (4,)})
    data = steps_of(5, terminated=True)
    made = returns_study.run_setting(one, data, seeds=(1, 2), compiled=False)
    assert made.steps == [0, 2, 4]
    assert made.scores[-1] == pytest.approx([0, 100], abs=1e-3)
    assert len(made.q) == 2
    assert made.config["policy_bc"] == 1.0
    assert made.config["batch_size"] == 4
