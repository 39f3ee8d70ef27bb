"""The table of every module alone: small launches, kept results, failures as rows."""

import json

import pytest

from rlop.experiments import baselines, baselines_table
from rlop.experiments.baselines import MODULES, Job, jobs, options_of, run_job

CHOSEN = ("plain", "dr3", "rmd lambda", "linear stack")
SMALL = {"steps": 20, "seeds": 2}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines")
    return [run_job(job, folder, **SMALL) for job in jobs(CHOSEN) if job.task == "gridworld"]


def test_every_strength_has_its_runs(records):
    assert not [record for record in records if "error" in record]
    rows = [
        (record["agent"], record["module"], row) for record in records for row in record["rows"]
    ]
    assert len(rows) == 2 * (1 + 3 + 3 + 3)
    for _, _, row in rows:
        assert all(
            len(row[name]) == SMALL["seeds"] for name in ("score", "auc", "srank", "dot", "active")
        )
    dots = {
        row["strength"]: sum(row["dot"])
        for agent, module, row in rows
        if (agent, module) == ("DQN", "dr3")
    }
    assert dots[0.3] < dots[0.03] < dots[0.003]  # the sweep reaches the rows it is written under


def test_a_result_that_is_there_is_not_made_again(records, tmp_path, monkeypatch):
    job = jobs(("plain",))[0]
    first = run_job(job, tmp_path, **SMALL)
    monkeypatch.setattr(baselines, "measure", lambda *_: pytest.fail("trained again"))
    assert run_job(job, tmp_path, **SMALL) == first
    with pytest.raises(pytest.fail.Exception):
        run_job(job, tmp_path, steps=21, seeds=2)  # another setting is another result


def test_a_launch_that_fails_is_a_row(records, tmp_path):
    wrong = baselines.Module("wrong", "layers.norm", ("no such",), sweeps=False)
    record = run_job(Job("gridworld", "DQN", wrong, ("no such",)), tmp_path, **SMALL)
    assert "no such" in record["error"]
    assert not list(tmp_path.glob("*.json"))
    text = baselines_table.markdown([*records, record])
    assert "| wrong | failed: InputError" in text


def test_the_table_has_a_line_for_every_row_and_the_best_of_each_module(records):
    text = baselines_table.markdown(records)
    assert text.count("| dr3 | 0.03 |") == 2
    assert text.count("## ") == 3  # the short table, and one for each agent
    short = text.split("## ")[1]
    aucs = {
        row["strength"]: sum(row["auc"])
        for r in records
        if r["module"] == "dr3"
        for row in r["rows"]
    }
    assert "| dr3 |" in short
    assert len(aucs) == 3
    json.dumps(records, allow_nan=False)


def test_best_is_the_largest_mean_and_ignores_runs_without_a_value():
    rows = [
        {"strength": 1, "auc": [0.1, 0.2]},
        {"strength": 2, "auc": [0.3, 0.4]},
        {"strength": 3, "auc": [9, None]},
    ]
    record = {"module": "m", "rows": rows}
    assert baselines_table.best([record])["m"][1]["strength"] == 2


def test_interval_by_hand():
    # mean 2, s = 1, t(.975, 2) = 4.303, half width 4.303 / sqrt(3) = 2.48
    assert baselines_table.interval([1.0, 2.0, 3.0]) == "2 ± 2.5"


def test_picture(records, tmp_path):
    pytest.importorskip("matplotlib")
    baselines_table.draw(records, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_options_reach_nested_places_and_leave_the_shared_ones_alone():
    (mup,) = (module for module in MODULES if module.name.startswith("muP"))
    options = options_of(Job("gridworld", "DiscreteCQL", mup, (16,)))
    assert options["layers"] == {"parametrization": "mup", "base_width": 16}
    assert options["alpha"] == 1.0
    assert mup.options == {"layers": {"parametrization": "mup"}}
