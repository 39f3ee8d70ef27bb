"""The benchmark's arithmetic by hand, and that every subject measures what it says."""

import argparse
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from scripts import benchmark  # noqa: E402
from scripts.bench import limit, measure, overhead, plain, side_by_side, updates  # noqa: E402
from scripts.bench.problems import CASES, PROBLEMS, Problem, transitions  # noqa: E402

SMALL = Problem("small", "cql", hidden=(8, 8), batch=4, obs=(3,), actions=2)


def test_a_ratio_is_the_median_of_the_ratios_within_rounds():
    # The second round was twice as slow for both; the median of the ratios is 3, the ratio of
    # the medians 4.
    assert measure.paired_ratio([1.0, 2.0, 1.0], [3.0, 6.0, 4.0]) == 3.0
    with pytest.raises(ValueError, match="as many rounds"):
        measure.paired_ratio([1.0], [1.0, 2.0])


def test_a_summary_keeps_the_rounds():
    assert measure.summary([3.0, 1.0, 2.0]) == {
        "median": 2.0,
        "min": 1.0,
        "max": 3.0,
        "rounds": [3.0, 1.0, 2.0],
    }


def test_a_table_is_aligned():
    found = measure.table(["", "ms"], [["plain", "1.50"], ["x", "22.25"]]).splitlines()
    assert found == ["          ms", "plain   1.50", "x      22.25"]


def test_everybody_runs_in_every_round():
    calls = []
    found = measure.race(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, seconds=0
    )
    assert calls[-6:] == ["a", "b"] * 3
    assert [len(found[name][clock]) for name in "ab" for clock in ("cpu", "wall")] == [3] * 4


def test_products_of_dqn_by_hand():
    """17 -> 256 -> 256, 256 states: forward twice, weights of both layers, inputs of the second."""
    first, second = 2 * 256 * 17 * 256, 2 * 256 * 256 * 256
    assert limit.gflop(PROBLEMS["DQN 2x256, batch 256"]) == pytest.approx(
        (3 * first + 4 * second) / 1e9
    )


def test_products_of_cql_by_hand():
    """B = 4; both critics see 31 actions a state, one for the target, one for the policy's loss."""
    critic = [(124, 5, 8), (124, 8, 8), (5, 124, 8), (8, 124, 8), (124, 8, 8)]
    critic += [(4, 5, 8), (4, 8, 8)] * 2 + [(4, 8, 5), (4, 8, 8)]
    policy = [(4, 3, 8), (4, 8, 8), (3, 4, 8), (8, 4, 8), (4, 8, 8), (4, 3, 8), (4, 8, 8)]
    assert limit.products(SMALL) == Counter(2 * critic + policy)


def test_layers_of_convolutions_by_hand():
    nature = [(400, 256, 32), (81, 512, 64), (49, 576, 64), (1, 3136, 512)]
    assert limit.q_layers(CASES["nature"][0]) == nature
    assert limit.q_layers(CASES["minatar"][0]) == [(64, 36, 16), (1, 1024, 128)]


@pytest.mark.parametrize(
    "problem",
    [SMALL, *(CASES[name][-1] for name in ("dqn", "minatar", "nature"))],
    ids=lambda p: p.name,
)
def test_plain_updates_learn_something(problem, monkeypatch):
    made = []
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *a, **k: made.append(adam(*a, **k)) or made[-1])
    update = plain.build(problem, transitions(problem, 300))
    before = [p.detach().clone() for o in made for g in o.param_groups for p in g["params"]]
    update()
    after = [p for o in made for g in o.param_groups for p in g["params"]]
    assert len(after) >= 6
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_random_transitions_have_the_shapes_asked_for():
    data = transitions(CASES["nature"][0], 10)
    assert (data.obs.shape, data.obs.dtype, data.spec.n_actions) == ((10, 4, 84, 84), "uint8", 6)
    assert transitions(CASES["minatar"][0], 10).obs.dtype == bool
    assert transitions(SMALL, 10).spec.action_shape == (2,)


def test_update_from_the_command_line(tmp_path):
    """As a user starts it; of what is not installed there is a line."""
    out = tmp_path / "new" / "benchmark.json"
    argv = [
        sys.executable,
        ROOT / "scripts" / "benchmark.py",
        "update",
        "--cases",
        "dqn",
        "--threads",
        "1",
    ]
    argv += ["--rounds", "2", "--seconds", "0.001", "--rows", "500", "--no-fresh", "--out", out]
    argv += ["--contestants", "plain PyTorch", "rlop", "tianshou"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(out.read_text())["update"]["cases"]
    assert [case["problem"] for case in cases] == [problem.name for problem in CASES["dqn"]]
    for case in cases:
        assert {"plain PyTorch", "rlop", "products fp32"} <= set(case["contestants"])
        assert len(case["contestants"]["rlop"]["cpu_ms"]["rounds"]) == 2
        assert case["ratios"]["cpu"]["rlop"]["plain PyTorch"] > 0
        assert "tianshou" in {**case["contestants"], **case["notes"]}


def test_a_peer_that_fails_is_a_line(monkeypatch):
    def broken(problem, data):
        raise RuntimeError("cannot\nmore")

    monkeypatch.setattr(updates, "builder", lambda name: broken)
    assert updates.build_all(SMALL, ["peer"], 10) == ({}, {"peer": "RuntimeError: cannot"})


def test_a_process_of_its_own_reports_first_call_and_memory(capsys):
    benchmark.main(["one", "MinAtar DQN", "rlop", "--rows", "300"])
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"build_s", "first_s", "peak_mb"}
    assert found["peak_mb"] > 10


def test_a_worker_waits_then_counts_its_updates(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    argv = ["worker", "gridworld DQN 2x128", "--runs", "2", "--rows", "300", "--seconds", "0.05"]
    benchmark.main(argv)
    ready, result = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert json.loads(result)["steps"] >= 1


def test_processes_add_up():
    two = [{"steps": 10, "wall_s": 2.0, "cpu_s": 1.0, "peak_mb": 100.0}] * 2
    found = side_by_side.together(two, runs=4)
    assert found == {"run_steps_per_s": 40.0, "cpu_ms_per_run_step": 25.0, "peak_mb": 200.0}


@pytest.mark.slow
def test_processes_start_together():
    options = argparse.Namespace(seconds=0.1, rows=300, compiled=False)
    layout = side_by_side.Layout(2, 2, 1)
    found = side_by_side.launch(benchmark.SCRIPT, PROBLEMS["gridworld DQN 2x128"], layout, options)
    assert found["run_steps_per_s"] > 0


def test_overhead_scales_each_cost_by_its_interval():
    found = overhead.cost(lambda: sum(range(1000)), every=200, update_ms=5.0, times=3)
    assert found["percent"] == pytest.approx(found["ms"] / 10)


def test_overhead_covers_everything_beside_an_update_and_every_term():
    problem, load = overhead.subjects()[0]
    data = load(500)
    found = overhead.measure_overhead(problem, data)
    assert set(found["parts"]) == {"probe", "log", "checkpoint", "evaluate"}
    assert found["percent"] == pytest.approx(sum(p["percent"] for p in found["parts"].values()))
    added = overhead.measure_terms(problem, data, rounds=1, seconds=0)
    assert set(added) == {*overhead.REGULARIZERS, "max_norm", "frobenius"}
    assert all("percent" in value or "note" in value for value in added.values())


def test_a_subject_replaces_only_its_own_part_of_the_record(tmp_path):
    out = tmp_path / "benchmark.json"
    benchmark.save("update", {"a": 1}, out)
    benchmark.save("runs", {"b": 2}, out)
    benchmark.save("update", {"a": 3}, out)
    assert json.loads(out.read_text()) == {"update": {"a": 3}, "runs": {"b": 2}}
