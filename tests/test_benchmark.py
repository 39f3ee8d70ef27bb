"""The benchmark's arithmetic by hand, and what every subject measures; no timing is asserted."""

import argparse
import dataclasses
import io
import json
import sys
from collections import Counter
from itertools import count

import pytest
import torch
from helpers import rlu
from helpers.experiments import ROOT

sys.path.append(str(ROOT))

from rlop.types import InputError
from scripts import benchmark
from scripts.bench import (
    against,
    agent_tables,
    frames,
    limit,
    measure,
    ours,
    overhead,
    plain,
    side_by_side,
    updates,
)
from scripts.bench.problems import CASES, PROBLEMS, Problem, transitions

SMALL = Problem("small", "cql", hidden=(8, 8), batch=4, obs=(3,), actions=2)


# --- arithmetic


def test_a_ratio_is_the_median_of_the_ratios_within_rounds():
    # The second round was twice as slow for both; the ratio of the medians would be 4.
    assert measure.paired_ratio([1.0, 2.0, 1.0], [3.0, 6.0, 4.0]) == 3.0
    with pytest.raises(ValueError, match="as many rounds"):
        measure.paired_ratio([1.0], [1.0, 2.0])


def test_a_summary_keeps_the_rounds():
    expected = {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": [3.0, 1.0, 2.0]}
    assert measure.summary([3.0, 1.0, 2.0]) == expected


def test_a_table_is_aligned():
    lines = measure.table(["", "ms"], [["plain", "1.50"], ["x", "22.25"]]).splitlines()
    assert lines == ["          ms", "plain   1.50", "x      22.25"]


def test_every_contestant_runs_in_every_round():
    calls = []
    contestants = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    samples = measure.race(contestants, rounds=3, seconds=0)
    assert calls[-6:] == ["a", "b"] * 3
    for name in "ab":
        assert {clock: len(times) for clock, times in samples[name].items()} == {
            "cpu": 3,
            "wall": 3,
        }


def test_a_call_of_many_updates_is_divided_by_their_number(monkeypatch):
    monkeypatch.setattr(measure.time, "process_time", count(step=8).__next__)
    assert measure.timed(lambda: 32, 1)["cpu"] == 8000 / 32
    assert measure.timed(lambda: 0.25, 4)["cpu"] == 8000 / 4  # a loss
    assert measure.repeats(lambda: 32, 24.0) == 3


def test_products_of_dqn_by_hand():
    """17 -> 256 -> 256 at 256 states: forward twice, weights of both layers, inputs of one."""
    first, second = 2 * 256 * 17 * 256, 2 * 256 * 256 * 256
    expected = (3 * first + 4 * second) / 1e9
    assert limit.gflop(PROBLEMS["DQN 2x256, batch 256"]) == pytest.approx(expected)


def test_products_of_cql_by_hand():
    """B = 4: both critics see 31 actions a state, one for the target, one for the policy."""
    critic = [(124, 5, 8), (124, 8, 8), (5, 124, 8), (8, 124, 8), (124, 8, 8)]
    critic += [(4, 5, 8), (4, 8, 8)] * 2 + [(4, 8, 5), (4, 8, 8)]
    policy = [(4, 3, 8), (4, 8, 8), (3, 4, 8), (8, 4, 8), (4, 8, 8), (4, 3, 8), (4, 8, 8)]
    assert limit.products(SMALL) == Counter(2 * critic + policy)


def test_layers_of_convolutions_by_hand():
    nature = [(400, 256, 32), (81, 512, 64), (49, 576, 64), (1, 3136, 512)]
    assert limit.q_layers(CASES["nature"][0]) == nature
    assert limit.q_layers(CASES["minatar"][0]) == [(64, 36, 16), (1, 1024, 128)]


def test_processes_add_up():
    two = [{"steps": 10, "wall_s": 2.0, "cpu_s": 1.0, "peak_mb": 100.0}] * 2
    total = side_by_side.together(two, runs=4)
    assert total == {"run_steps_per_s": 40.0, "cpu_ms_per_run_step": 25.0, "peak_mb": 200.0}


def test_overhead_weighs_a_cost_by_its_interval():
    cost = overhead.cost(lambda: sum(range(1000)), every=200, update_ms=5.0, times=3)
    assert cost["percent"] == pytest.approx(cost["ms"] / 10)


# --- contestants


@pytest.mark.parametrize(
    "problem",
    [SMALL, CASES["dqn"][-1], CASES["minatar"][-1], CASES["nature"][-1]],
    ids=lambda problem: problem.name,
)
def test_a_plain_update_moves_every_parameter(problem, monkeypatch):
    parameters = []
    adam = torch.optim.Adam

    def recording_adam(groups, *args, **options):
        optimizer = adam(groups, *args, **options)
        for group in optimizer.param_groups:
            parameters.extend(group["params"])
        return optimizer

    monkeypatch.setattr(torch.optim, "Adam", recording_adam)
    update = plain.build(problem, transitions(problem, 300))
    before = [p.detach().clone() for p in parameters]
    update()
    assert len(before) >= 6
    for old, new in zip(before, parameters, strict=True):
        assert not torch.equal(old, new)


@pytest.mark.parametrize("problem", CASES["actors"], ids=lambda problem: problem.name)
def test_agents_with_a_policy_race_with_those_who_have_them(problem):
    entering = [name for name in updates.NAMES if updates.may_enter(name, problem)]
    assert set(updates.OURS) < set(entering) <= {*updates.OURS, "d3rlpy", "corl"}
    small = dataclasses.replace(problem, hidden=(8, 8), batch=16)
    assert limit.gflop(small) > 0
    ours.build(small, transitions(small, 300))()


def test_the_table_of_agents_has_the_ratios_within_rounds():
    times = {"corl": [4.0, 9.0], "rlop": [2.0, 3.0], "rlop compiled": [1.0, 1.0]}
    contestants = {name: {"cpu_ms": {"rounds": values}} for name, values in times.items()}
    row = agent_tables.row({"problem": "IQL 2x256", "threads": 1, "contestants": contestants})
    assert row["case"] == "IQL 2x256"
    assert row["eager, ms"] == "2.5 (2-3)"
    assert row["CORL / eager"] == "2.5 (2-3)"
    assert row["CORL / compiled"] == "6.5 (4-9)"
    assert row["d3rlpy / eager"] is None


def test_corl_without_a_checkout_is_one_note(monkeypatch):
    monkeypatch.delenv("CORL_DIR", raising=False)
    monkeypatch.delitem(sys.modules, "scripts.corl.checkout", raising=False)
    _, notes = updates.build_all(CASES["actors"][0], ["corl"], 300)
    assert notes == {"corl": "not installed: CORL, a checkout in $CORL_DIR"}


def test_random_transitions_have_the_shapes_asked_for():
    nature = transitions(CASES["nature"][0], 10)
    assert nature.obs.shape == (10, 4, 84, 84)
    assert nature.obs.dtype == "uint8"
    assert nature.spec.n_actions == 6
    assert transitions(CASES["minatar"][0], 10).obs.dtype == bool
    assert transitions(SMALL, 10).spec.action_shape == (2,)


def test_a_peer_that_fails_is_a_note(monkeypatch):
    def broken(problem, data):
        raise RuntimeError("cannot\nmore")

    monkeypatch.setattr(updates, "builder", lambda name: broken)
    assert updates.build_all(SMALL, ["peer"], 10) == ({}, {"peer": "RuntimeError: cannot"})


# --- subjects


def test_update_from_the_command_line_with_a_note_for_what_is_not_installed(tmp_path):
    out = tmp_path / "new" / "benchmark.json"
    argv = ["update", "--cases", "dqn", "--threads", "1", "--rounds", "2", "--seconds", "0.001"]
    argv += ["--rows", "500", "--no-fresh", "--contestants", "plain PyTorch", "rlop", "tianshou"]
    benchmark.main([*argv, "--out", str(out)])

    cases = json.loads(out.read_text())["update"]["cases"]
    assert [case["problem"] for case in cases] == [problem.name for problem in CASES["dqn"]]
    for case in cases:
        assert {"plain PyTorch", "rlop", "products fp32"} <= set(case["contestants"])
        assert len(case["contestants"]["rlop"]["cpu_ms"]["rounds"]) == 2
        assert case["ratios"]["cpu"]["rlop"]["plain PyTorch"] > 0
        assert "tianshou" in {**case["contestants"], **case["notes"]}


def test_a_process_of_one_contestant_reports_first_call_and_memory(capsys):
    benchmark.main(["one", "MinAtar DQN", "rlop", "--rows", "300"])
    first = json.loads(capsys.readouterr().out)
    assert set(first) == {"build_s", "first_s", "peak_mb"}
    assert first["peak_mb"] > 10


def test_a_worker_waits_then_counts_its_updates(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    options = ["--runs", "2", "--rows", "300", "--seconds", "0.05"]
    benchmark.main(["worker", "gridworld DQN 2x128", *options])
    ready, work = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert json.loads(work)["steps"] >= 1


@pytest.mark.slow
def test_processes_start_together():
    options = argparse.Namespace(seconds=0.1, rows=300, compiled=False)
    layout = side_by_side.Layout(2, 2, 1)
    problem = PROBLEMS["gridworld DQN 2x128"]
    result = side_by_side.launch(benchmark.SCRIPT, problem, layout, options)
    assert result["run_steps_per_s"] > 0


def test_overhead_covers_all_that_happens_between_updates_and_every_term():
    problem, load = overhead.subjects()[0]
    data = load(500)
    result = overhead.measure_overhead(problem, data)
    assert set(result["parts"]) == {"probe", "log", "checkpoint", "evaluate"}
    percents = [part["percent"] for part in result["parts"].values()]
    assert result["percent"] == pytest.approx(sum(percents))

    added = overhead.measure_terms(problem, data, rounds=1, seconds=0)
    assert set(added) == {*overhead.REGULARIZERS, *overhead.PROJECTIONS}
    for cost in added.values():
        assert "percent" in cost or "note" in cost


def test_a_subject_replaces_only_its_own_part_of_the_record(tmp_path):
    out = tmp_path / "benchmark.json"
    benchmark.save("update", {"a": 1}, out)
    benchmark.save("runs", {"b": 2}, out)
    benchmark.save("update", {"a": 3}, out)
    assert json.loads(out.read_text()) == {"update": {"a": 3}, "runs": {"b": 2}}


# --- two checkouts


def test_a_comparison_by_hand():
    case = against.AGENTS[0]
    comparison = against.compare(case, new_ms=[2.0, 3.0, 4.0], old_ms=[2.0, 2.0, 2.0])
    assert comparison["ratio"] == 1.5
    assert (comparison["low"], comparison["high"]) == (1.25, 1.75)  # quartiles of 1, 1.5, 2
    *_, line = against.text([comparison]).splitlines()
    assert line.split()[-4:] == ["3.000", "2.000", "1.500", "1.250-1.750"]


def test_cases_are_eager_at_one_and_eight_runs_and_compiled_where_asked():
    eager = against.cases(["minatar"], compiled=False)
    assert [case.label for case in eager] == [
        "MinAtar DQN, R = 1, eager",
        "MinAtar DQN, R = 8, eager",
    ]
    assert [case.compiled for case in against.cases(["cql"], compiled=True)] == [
        False,
        False,
        True,
    ]


def test_checkouts_alternate_and_take_turns_at_being_first(monkeypatch):
    order = []

    class Fake(against.Checkout):
        def __init__(self, folder):
            self.folder = folder

        def __exit__(self, *error):
            pass

        def prepare(self, case):
            pass

        def time(self, seconds):
            order.append(self.folder)
            return 1.0

    monkeypatch.setattr(against, "check_checkout", lambda folder: None)
    monkeypatch.setattr(against, "Checkout", Fake)
    (comparison,) = against.benchmark("old", against.AGENTS[:1], rounds=3, seconds=0)
    assert comparison["new_ms"] == [1.0] * 3
    new = against.ROOT
    assert order == [new, "old", "old", new, new, "old"]


def test_a_folder_without_the_packages_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--against .*: has no rlop/"):
        against.check_checkout(tmp_path)


def test_every_case_is_timed():
    with against.Checkout(ROOT) as checkout:
        for case in against.AGENTS:
            checkout.prepare(case)
            assert checkout.time(0.01) > 0


def test_a_process_imports_the_checkout_that_it_measures(tmp_path):
    """A stand-in without agents fails by its own error, though rlop is importable here."""
    (tmp_path / "rlop").mkdir()
    (tmp_path / "rlop" / "__init__.py").write_text("raise ImportError('the old one')")
    failure = pytest.raises(InputError, match=r"DQN 2x256.*the old one")
    with against.Checkout(tmp_path) as old, failure:
        old.prepare(against.AGENTS[0])


def test_frames_are_counted_for_the_reader_and_for_pillow(tmp_path, monkeypatch, capsys):
    pytest.importorskip("PIL")
    monkeypatch.setenv("RLU_DIR", str(tmp_path))
    assert frames.benchmark("rlu:atari/Pong/1") == {}
    assert "no file" in capsys.readouterr().out

    rlu.shard(tmp_path, 0, [rlu.episode(range(1, 9))])
    found = frames.benchmark("rlu:atari/Pong/1", rounds=1)
    assert found.keys() == {"rlop", "Pillow", "cpu_of_pillow"}
    assert "8 frames" in capsys.readouterr().out
