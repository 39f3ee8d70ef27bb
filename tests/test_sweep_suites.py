"""The shipped sweeps: each is whole, says what it costs, and what it is to be compared with."""

from pathlib import Path

import pytest

from rlop.cli import main
from rlop.data.formats.d4rl import state
from rlop.sweep.file import read_sweep
from rlop.sweep.launches import groups
from rlop.sweep.plan import checked

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "sweeps"
# name -> configurations, launches and runs, where nothing has been measured
SUITES = {
    "adroit": (24, 24, 96),
    "antmaze-6": (12, 12, 48),
    "atari-17": (34, 34, 340),
    "atlas-gym": (81, 6, 324),
    "atlas-minatar": (36, 5, 288),
    "baselines": (24, 8, 192),
    "d4rl-gym-9": (18, 18, 72),
    "gridworld-study": (54, 9, 432),
    "kitchen-3": (6, 6, 24),
}


def test_every_shipped_sweep_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_the_launches_that_it_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlop.sweep.sizing.in_child", lambda values: "not measured: a test")
    assert main(["sweep", name, "--dry-run"]) == 0
    configurations, launches, runs = SUITES[name]
    shown = capsys.readouterr().out
    assert f"{configurations} configurations, {runs} runs, in {launches} launches:" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_states_its_cost_and_what_to_compare_it_with(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert "# Cost" in text
    assert "# Reference" in text
    _, _, runs = SUITES[name]
    assert f"{runs} runs" in text or f"of {runs // SUITES[name][1]} runs" in text


@pytest.mark.parametrize("name", ["d4rl-gym-9", "antmaze-6", "kitchen-3", "adroit"])
def test_the_data_sets_of_d4rl_have_a_file(name):
    for item in checked(read_sweep(name, [])):
        address = item.experiment.data.removeprefix("d4rl:")
        assert state(address), address


def test_what_a_suite_varies_on_the_run_axis_shares_a_process():
    for group in groups(checked(read_sweep("gridworld-study", []))):
        assert group.varying == ("alpha", "regularizers.dr3")
    for group in groups(checked(read_sweep("baselines", []))):
        assert group.varying == ("lr",)
