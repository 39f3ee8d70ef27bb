"""The doctor: from measures to findings and words, on measures made by hand and small networks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rlop
from rlop.data import Dataset, load_dataset
from rlop.doctor import as_text
from rlop.doctor.datasets import behavior_variety, measure_data
from rlop.doctor.findings import findings
from rlop.doctor.measures import MEASURES
from rlop.doctor.modules import measure_module, redrawn
from rlop.doctor.ranges import percentiles, ranges
from rlop.doctor.rules import DISEASES, OK, SICK, UNMEASURED, WATCH
from rlop.doctor.words import WORDS, remedy
from rlop.experiments import doctor_study
from rlop.experiments.doctor_runs import HEALTHY, INDUCED, examine

ROOT = Path(__file__).resolve().parents[1]

# A run like our healthy ones.
WELL = {
    "rank/effective": 0.75,
    "units/dormant": 0.25,
    "units/inactive": 0.05,
    "feature/dot": 3.0,
    "feature/angle": 0.5,
    "feature/norm": 1.5,
    "run/frozen": 0.0,
    "value/limit": 0.1,
    "value/mean": 0.5,
    "value/best": -0.9,
    "value/worst": -3.0,
    "value/random": -3.0,
    "value/policy": 0.1,
    "value/drift": 0.1,
    "policy/bound": 0.0,
    "plasticity/refit": 1.0,
    "data/flat": 0.0,
    "data/ends": 0.04,
    "data/varied": 0.9,
}

# Disease -> measures that only it changes.
ILL = {
    "rank collapse": {"rank/effective": 0.2},
    "dormant units": {"units/dormant": 0.7},
    "alignment": {"feature/dot": 20.0, "feature/angle": 0.01},
    "divergence": {"run/frozen": 1.0},
    "over-estimation": {"value/best": 2.0},
    "over-conservatism": {"value/worst": 1.0},
    "values outside the data": {"value/policy": 2.0},
    "policy on the bound": {"policy/bound": 0.5},
    "lost plasticity": {"plasticity/refit": 10.0},
    "constant rewards": {"data/flat": 1.0},
    "missing ends": {"data/ends": 0.0},
    "single behavior": {"data/varied": 0.0},
}


def levels(measured):
    return {finding.disease: finding.level for finding in findings(measured)}


def test_a_healthy_run_gets_a_clean_bill():
    assert set(levels(WELL).values()) == {OK}


@pytest.mark.parametrize("disease", ILL)
def test_a_disease_is_named_and_no_other(disease):
    found = findings(WELL | ILL[disease])
    assert [finding.disease for finding in found if finding.level != OK] == [disease]
    assert found[0].level == SICK  # the worst first
    assert found[0].evidence[0].value == next(iter(ILL[disease].values()))


def test_what_was_not_measured_is_neither_well_nor_sick():
    assert set(levels({}).values()) == {UNMEASURED}

    # A dot product without the angle decides nothing; of two signs, one is enough to be sick.
    assert levels({"feature/dot": 100.0})["alignment"] == UNMEASURED
    assert levels({"value/limit": 1e9})["divergence"] == SICK


def test_a_dot_product_that_grew_alone_is_no_alignment():
    grown = WELL | {"feature/dot": 38.0, "feature/angle": 0.7}
    assert levels(grown)["alignment"] == OK
    both = WELL | {"feature/dot": 38.0, "feature/angle": 0.1}
    assert levels(both)["alignment"] == WATCH


def test_thresholds_and_infinite_measures():
    assert levels(WELL | {"rank/effective": 0.45})["rank collapse"] == SICK
    assert levels(WELL | {"rank/effective": 0.4501})["rank collapse"] == WATCH
    assert levels(WELL | {"plasticity/refit": float("inf")})["lost plasticity"] == SICK
    assert levels(WELL | {"feature/norm": 1e9})["feature growth"] == WATCH


def test_certainty_follows_the_reference_ranges():
    def sure(value, approximate=False):
        found = findings(WELL | {"rank/effective": value}, approximate)
        return next(item.sure for item in found if item.disease == "rank collapse")

    healthy = ranges()["healthy"]["rank/effective"]
    sick = ranges()["sick"]["rank collapse"]["rank/effective"]
    assert sick[1] < 0.45 < healthy[0]  # or the disease cannot be told apart
    assert sure(sick[0]) == "high"
    assert sure((sick[1] + 0.45) / 2) == "medium"
    assert sure(healthy[1]) == "high"
    assert sure(sick[0], approximate=True) == "low"


def test_every_disease_has_words_measures_and_a_remedy():
    assert set(WORDS) == set(DISEASES)
    for name, disease in DISEASES.items():
        assert set(disease.measures) <= set(MEASURES), name
        assert WORDS[name].sick
        assert WORDS[name].advice
    assert set(ILL) == set(INDUCED)

    text = remedy("alignment", "run/config.yaml", None)
    assert text.startswith("rlop train run/config.yaml --agent.regularizers.dr3")
    assert "rlop.dr3" in remedy("alignment", None, None)
    assert remedy("missing ends", "c.yaml", "d.hdf5").startswith("rlop info d.hdf5")


def test_a_diagnosis_reads_as_text():
    diagnosis = rlop.doctor.Diagnosis("seed=0", findings(WELL | ILL["alignment"]), WELL)
    text = as_text(diagnosis, "c.yaml")
    assert text.splitlines()[1].startswith("  SICK: alignment. The features of consecutive states")
    assert "as a multiple of that at the start: 20" in text
    assert "try: rlop train c.yaml" in text
    assert "  ok: rank collapse, dormant units" in text
    assert diagnosis.sick == ["alignment"]


# --- data


def arrays(action, obs, **changes):
    n = len(action)
    end = np.arange(n) % 10 == 9
    columns = {
        "reward": np.arange(n) % 3,
        "terminated": end,
        "truncated": np.zeros(n, bool),
        "next_obs": np.roll(obs, -1, axis=0),
    }
    return Dataset.from_arrays(obs, action, **(columns | changes))


def test_data_with_one_action_for_each_state_and_with_any():
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 4, (400, 2)).astype(np.float32)
    single = arrays((obs.sum(1) % 3).astype(int), obs)
    assert behavior_variety(single) == 0
    assert behavior_variety(arrays(rng.integers(0, 3, 400), obs)) == pytest.approx(1, abs=0.15)

    smooth = np.stack([np.sin(obs[:, 0]), obs[:, 1] / 4], 1).astype(np.float32)
    assert behavior_variety(arrays(smooth, obs)) == 0
    noisy = (smooth + rng.normal(0, 1, smooth.shape)).clip(-3, 3) / 3
    assert behavior_variety(arrays(noisy.astype(np.float32), obs)) > 0.5


def test_faults_of_data_are_measured():
    obs = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
    action = np.arange(100) % 2
    measured = measure_data(arrays(action, obs))
    assert measured["data/flat"] == 0
    assert measured["data/ends"] == 0.09
    assert measured["data/broken"] == 0

    no = np.zeros(100, bool)
    endless = arrays(action, obs, terminated=no, reward=np.ones(100))
    measured = measure_data(endless)
    assert measured["data/flat"] == 1
    assert measured["data/ends"] == 0
    assert "data/varied" not in measured  # one episode has no other to compare with


# --- networks


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    )


OBS = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))


def test_a_network_that_was_not_trained_is_well_as_far_as_that_can_be_said():
    (diagnosis,) = rlop.diagnose(network(), OBS, next_batch=OBS.roll(1, 0), refit_steps=20)
    assert diagnosis.sick == []
    assert diagnosis.label == "Sequential"
    unmeasured = [item.disease for item in diagnosis.findings if item.level == UNMEASURED]
    assert {"divergence", "over-estimation", "constant rewards"} <= set(unmeasured)


def test_silent_units_of_any_network_are_named():
    silent = network()
    with torch.no_grad():
        silent[2].bias[:24] = -100
    (diagnosis,) = rlop.diagnose(silent, OBS, start=network(), refit_steps=0)
    assert "dormant units" in diagnosis.sick
    assert diagnosis.measured["units/dormant"] >= 0.75


def test_a_network_keeps_its_mode_and_statistics_and_other_things_are_refused():
    net = nn.Sequential(network()[0], nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    rlop.diagnose(net, OBS, refit_steps=2)
    assert net.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())

    with pytest.raises(rlop.InputError, match=r"model: expected a torch.nn.Module, got str"):
        rlop.diagnose("network", OBS)


def test_redrawing_leaves_the_network_and_the_stream_alone():
    net = network()
    before = net[0].weight.clone()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fresh = redrawn(net, 1)
    assert torch.rand(1) == expected
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(fresh[0].weight, before)
    assert torch.equal(redrawn(net, 1)[0].weight, fresh[0].weight)


def test_values_of_a_network_are_compared_with_the_returns_of_data():
    data = load_dataset("gridworld?size=4&steps=300&observation=random&obs_dim=8")
    high = network()
    with torch.no_grad():
        high[4].bias += 50
    measured = measure_module(high, data, gives="q", gamma=0.9, refit_steps=0)
    assert measured["value/best"] > 100
    assert measured["value/limit"] == pytest.approx(5, rel=0.1)  # 50 of 1 / (1 - 0.9)

    with pytest.raises(rlop.InputError, match=r"expected values \(300, 5\), one for each action"):
        measure_module(nn.Sequential(*high[:2], nn.Linear(32, 2)), data, gives="q", refit_steps=0)


def test_a_policy_on_the_bound_is_named():
    rng = np.random.default_rng(2)
    obs = rng.normal(size=(200, 8)).astype(np.float32)
    data = arrays(rng.uniform(-1, 1, (200, 2)).astype(np.float32), obs)
    policy = nn.Sequential(*network()[:4], nn.Linear(32, 2), nn.Tanh())
    assert measure_module(policy, data, gives="actions", refit_steps=0)["policy/bound"] == 0
    with torch.no_grad():
        policy[4].bias += 20
    (diagnosis,) = rlop.diagnose(policy, data, gives="actions", refit_steps=0)
    assert "policy on the bound" in diagnosis.sick


def test_an_agent_needs_a_data_set():
    data = load_dataset("gridworld?size=3&steps=60")
    agent = rlop.agents.DQN(data.spec, hidden=(8,))
    with pytest.raises(rlop.InputError, match="data: expected a Dataset with an agent, got Tensor"):
        rlop.diagnose(agent, OBS)


# --- trainings made sick on purpose, in short


def short(patient, steps):
    return doctor_study.named(examine(replace(patient, steps=steps), [1])[0])


def test_induced_diseases_are_named_and_a_healthy_run_is_clean():
    assert short(HEALTHY["DQN, max-norm"], 100) == []
    assert "divergence" in short(INDUCED["divergence"], 200)
    assert short(INDUCED["constant rewards"], 20) == ["constant rewards"]


# --- the table


def test_the_table_counts_what_was_named():
    sick = WELL | ILL["alignment"]
    records = [
        {"patient": "DQN, layer norm", "seeds": [1], "seconds": 30.0, "runs": [WELL, sick]},
        {"patient": "alignment", "seeds": [1], "seconds": 30.0, "runs": [sick, WELL]},
        {
            "patient": "over-estimation",
            "seeds": [1],
            "seconds": 0.0,
            "runs": [WELL | ILL["over-estimation"] | ILL["divergence"]],
        },
    ]
    text = doctor_study.table(records)
    assert "| nothing (DQN, layer norm) | 2 | - | none | alignment 1 |" in text
    assert "| alignment | 2 | 1 | none | none |" in text
    assert "| over-estimation | 1 | 1 | none | divergence 1 |" in text
    assert "Named: 2 of 3 (67%). Runs with a disease named that was not listed: 1 of 3" in text
    assert "more than one disease: 0 of 2. Measured in 1.0 processor minutes" in text


def test_page_and_ranges_follow_from_the_records():
    records = doctor_study.read(ROOT / "docs" / "doctor.jsonl")
    calibrating = doctor_study.chosen(records, doctor_study.plan(calibrating=True))
    shipped = json.loads((ROOT / "rlop" / "doctor" / "ranges.json").read_text())
    assert shipped == doctor_study.reference(calibrating)

    deciding = doctor_study.chosen(records, doctor_study.plan(calibrating=False))
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert doctor_study.filled(page, deciding) == page


def test_deciding_seeds_set_no_threshold():
    calibrating = set(doctor_study.CALIBRATION)
    deciding = doctor_study.plan(calibrating=False)
    assert all(calibrating.isdisjoint(seeds) for seeds in deciding.values())
    assert sum(len(deciding[name]) for name in HEALTHY) == 10
    assert all(len(deciding[name]) == 5 for name in INDUCED)


def test_percentiles_leave_out_what_is_not_finite():
    runs = [{"a": float(value)} for value in range(101)] + [{"a": float("inf")}, {"b": 1.0}]
    assert percentiles(runs) == {"a": [5.0, 95.0], "b": [1.0, 1.0]}
