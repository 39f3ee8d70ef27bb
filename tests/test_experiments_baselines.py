"""The table of every module alone: small launches, kept results, failures as rows."""

import json

import pytest

from rlop.experiments import baselines, baselines_table
from rlop.experiments.baselines import MODULES, Job, Module, jobs, options_of, run_job

CHOSEN = ("plain, lr", "nothing, control", "dr3", "rmd lambda", "linear stack")
STEPS, SEEDS = 20, 2


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Results of a few modules on the gridworld."""
    folder = tmp_path_factory.mktemp("baselines")
    chosen = [job for job in jobs(CHOSEN) if job.task == "gridworld"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "EVALUATIONS", 2)
        return [run_job(job, folder, STEPS, SEEDS) for job in chosen]


def rows_of(records, agent, module):
    matching = [record for record in records if record["agent"] == agent]
    return baselines_table.rows_of(matching, module)


@pytest.mark.parametrize("agent", ["DQN", "DiscreteCQL"])
@pytest.mark.parametrize("module", CHOSEN)
def test_every_strength_has_a_number_of_every_run(records, agent, module):
    assert not any("error" in record for record in records)
    (declared,) = (m for m in MODULES if m.name == module)
    rows = rows_of(records, agent, module)
    assert [row["strength"] for row in rows] == list(declared.strengths)
    for row in rows:
        for name in ("score", "auc", "srank", "dot", "active"):
            assert len(row[name]) == SEEDS
        assert len(row["tuning"]) == 1
        assert len(row["change"]) in (0, SEEDS)


def test_a_swept_strength_reaches_the_row_that_it_is_written_under(records):
    rows = rows_of(records, "DQN", "dr3")
    dots = [sum(row["dot"]) for row in rows]  # strengths rise, so dot products fall
    assert dots == sorted(dots, reverse=True)
    assert len(set(dots)) == 3


def test_the_control_is_inert_and_modules_are_not(records):
    (control,) = (row for row in rows_of(records, "DQN", "nothing, control")[:1])
    assert max(control["change"]) < baselines.INERT / 10
    assert baselines_table.acts([control]) == "inert"

    for module in ("dr3", "rmd lambda"):
        changes = [sum(row["change"]) for row in rows_of(records, "DQN", module)]
        assert max(changes) > SEEDS * baselines.INERT
    weaker = rows_of(records, "DQN", "dr3")[0]
    assert baselines_table.acts([control, weaker]) == "inert at 1 of 2"
    stack = rows_of(records, "DQN", "linear stack")
    assert baselines_table.acts(stack) == "other parameters"


def test_strengths_of_rmd_are_compared_with_its_optimizer_without_slacks(records):
    """The weaker the loss, the further from plain mirror descent."""
    changes = [sum(row["change"]) for row in rows_of(records, "DQN", "rmd lambda")]
    assert changes == sorted(changes, reverse=True)


def test_change_of_plain_at_its_own_rate_is_nothing(records):
    slower, same, _ = rows_of(records, "DQN", "plain, lr")
    assert max(same["change"]) < baselines.INERT / 10
    assert min(slower["change"]) > baselines.INERT


def test_seeds_that_choose_do_not_report():
    reporting, tuning = baselines.seeds_of(8)
    assert (len(reporting), len(tuning)) == (8, 4)
    assert not set(reporting) & set(tuning)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("lr", "lr"),
        ("regularizers.dr3", "regularizers.dr3"),
        ("optimizer.rmd.lam", "optimizer.lam"),
    ],
)
def test_runs_keep_an_option_without_the_name_of_the_optimizer(key, name):
    assert baselines.swept_name(key) == name


def test_a_kept_result_is_not_made_again_but_for_other_settings(tmp_path, monkeypatch):
    job = jobs(("plain, lr",))[0]
    first = run_job(job, tmp_path, STEPS, SEEDS)
    monkeypatch.setattr(baselines, "measure", lambda *_: pytest.fail("trained again"))
    assert run_job(job, tmp_path, STEPS, SEEDS) == first
    with pytest.raises(pytest.fail.Exception):
        run_job(job, tmp_path, STEPS + 1, SEEDS)


def test_a_launch_that_fails_is_a_row_and_keeps_no_file(records, tmp_path):
    wrong = Module("wrong", "layers.norm", ("no such",), sweeps=False)
    record = run_job(Job("gridworld", "DQN", wrong, ("no such",)), tmp_path, STEPS, SEEDS)
    assert "no such" in record["error"]
    assert not list(tmp_path.glob("*.json"))
    assert "| wrong | failed: InputError" in baselines_table.markdown([*records, record])


def test_the_page_has_a_line_for_every_row_and_the_best_of_each_module(records):
    page = baselines_table.markdown(records)
    _, short, dqn, cql = page.split("## ")
    assert short.count("| dr3 |") == 1
    for table in (dqn, cql):
        assert table.count("| dr3 | 0.03 |") == 1
    json.dumps(records, allow_nan=False)


def test_the_strength_is_chosen_by_the_tuning_seeds_alone():
    rows = [
        {"strength": 1, "auc": [9, 9], "tuning": [0.1, 0.2]},
        {"strength": 2, "auc": [0, 0], "tuning": [0.3, 0.4]},
        {"strength": 3, "auc": [9, 9], "tuning": [9, None]},
    ]
    assert baselines_table.best([{"module": "m", "rows": rows}])["m"]["strength"] == 2


def test_an_interval_by_hand():
    """Mean 2, s = 1, t(.975, 2) = 4.303, half width 4.303 / sqrt(3) = 2.48."""
    assert baselines_table.interval([1.0, 2.0, 3.0]) == "2 ± 2.5"


@pytest.mark.parametrize(
    ("strength", "active", "text"),
    [
        (None, [1, 1], ""),
        (0.030, [1, 1], "0.03"),
        (True, [1, 1], "True"),
        ("layer", [1, 0], "layer (1 diverged)"),
    ],
)
def test_a_strength_is_written_with_the_runs_that_diverged(strength, active, text):
    assert baselines_table.strength_text({"strength": strength, "active": active}) == text


def test_the_picture_is_a_png(records, tmp_path):
    pytest.importorskip("matplotlib")
    baselines_table.draw(records, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_options_reach_nested_places_and_leave_the_shared_ones_alone():
    (mup,) = (module for module in MODULES if module.name.startswith("muP"))
    options = options_of(Job("gridworld", "DiscreteCQL", mup, (16,)))
    assert options["layers"] == {"parametrization": "mup", "base_width": 16}
    assert options["alpha"] == 1.0
    assert mup.options == {"layers": {"parametrization": "mup"}}
