"""What `scripts/benchmark.py jax` writes, on tiny problems; no timing is asserted."""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers.experiments import ROOT

sys.path.append(str(ROOT))

from scripts import benchmark
from scripts.bench import answering, arrays, beside_jax, jax_tables, measure, operations, ours
from scripts.bench.answering import Answering
from scripts.bench.problems import JAX_PROBLEMS, PROBLEMS, Problem, transitions

VECTORS = {"hidden": (4, 4), "batch": 4, "obs": (3,), "actions": 2}
PIXELS = {"network": "minatar", "hidden": (4,), "batch": 4, "obs": (10, 10, 4), "actions": 3}
SMALL = Problem("small", "dqn", **VECTORS)
DOCS = ROOT / "docs"

# A stand-in for the process of a contestant; what an update takes grows with the rounds.
ANSWERS = """
import json, sys
print(json.dumps({"first_s": 0.5, "first_cpu_s": 0.25}), flush=True)
for count, line in enumerate(sys.stdin):
    print(json.dumps({"cpu": 1.0 + count, "wall": 2.0, "peak_mb": 3.0}), flush=True)
"""


def line(contestant, cpu_ms, **others):
    """Return a line of the record."""
    return {
        "case": "DQN 2x64, batch 32",
        "R": 1,
        "contestant": contestant,
        "cpu_ms": cpu_ms,
        **others,
    }


LINES = [
    line("plain PyTorch", [2.0, 2.0, 4.0], peak_mb=99.6),
    line("rlop eager", [3.0, 2.0, 4.0], peak_mb=200.0),
    line("rlop compiled", [1.0, 1.0, 3.0], cold_cpu_s=20.5, warm_cpu_s=2.5),
    line("JAX", [0.5, 1.0, 1.0], cold_cpu_s=3.0, warm_cpu_s=1.0, losses_differ=1e-6),
    line("JAX, im2col", [0.25, 0.5, 4.0], losses_differ=2e-6),
]


# --- tables


def test_ratios_are_taken_within_rounds_against_the_faster_form_of_jax():
    (row,) = (jax_tables.cost_row(case) for case in jax_tables.by_case(LINES))
    assert row["rlop compiled"] == "1 (1-3)"
    assert row["compiled / JAX"] == "2 (0.75-4)"
    assert row["compiled / eager"] == "0.5 (0.333-0.75)"
    assert row["eager / plain"] == "1 (1-1.5)"


def test_rows_are_in_the_order_of_the_problems_not_of_the_record():
    cases = [("CQL 2x256", 1), ("DQN 2x64, batch 32", 32), ("DQN 2x64, batch 32", 8)]
    record = [{"case": case, "R": runs, "contestant": "JAX"} for case, runs in cases]
    rows = [case["JAX"] for case in jax_tables.by_case(record)]
    assert [(row["case"], row["R"]) for row in rows] == cases[::-1]


def test_first_calls_memory_and_agreement():
    (row,) = (jax_tables.start_row(case) for case in jax_tables.by_case(LINES))
    assert (row["rlop compiled, s"], row["JAX again, s"], row["JAX, im2col, s"]) == (
        20.5,
        1.0,
        None,
    )
    assert (row["plain PyTorch, MB"], row["JAX, MB"]) == (100, None)
    assert row["losses differ by"] == 2e-6


def test_a_contestant_that_failed_is_a_note_and_has_no_ratio():
    failed = {"case": "small", "R": 8, "contestant": "JAX", "note": "ended"}
    several = {"rlop eager": line("rlop eager", [1.0]), "JAX": failed}
    row = jax_tables.cost_row(several)
    assert (row["JAX"], row["compiled / JAX"], row["plain PyTorch"]) == ("ended", None, None)


def test_a_case_that_is_measured_again_replaces_its_lines(tmp_path):
    record = tmp_path / "jax.jsonl"
    other = {**LINES[0], "R": 8}
    beside_jax.replace_lines(record, {"machine": 1}, [LINES[0], LINES[1]])
    beside_jax.replace_lines(record, {"machine": 2}, [other])
    beside_jax.replace_lines(record, {"machine": 3}, [LINES[3]])
    assert beside_jax.read_lines(record) == [{"machine": 3}, other, LINES[3]]


def test_the_page_in_the_docs_has_the_tables_of_its_record(tmp_path):
    page = tmp_path / "speed.md"
    page.write_text((DOCS / "speed.md").read_text())
    benchmark.main(["jax-page", str(DOCS / "speed.jsonl"), str(page)])
    assert page.read_text() == (DOCS / "speed.md").read_text()
    for piece in jax_tables.HEADINGS:
        assert f"<!-- {piece} -->\n\n| case |" in page.read_text()


# --- processes


def test_an_update_is_what_a_call_says_it_made(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("0\n"))
    monkeypatch.setattr(measure.time, "perf_counter", iter([10.0, 12.0, 13.0]).__next__)
    monkeypatch.setattr(measure.time, "process_time", iter([0.0, 1.5]).__next__)
    monkeypatch.setattr(measure, "peak_mb", lambda: 7.0)
    measure.serve(lambda: 5, {"first_s": 1.0})
    first, times = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"first_s": 1.0}
    assert times == {"cpu": 300.0, "wall": 600.0, "peak_mb": 7.0}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is what getrusage says")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    large = np.ones(30 * 2**20)  # 240 MB
    source = "from scripts.bench.measure import peak_mb; print(peak_mb())"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert 1 < float(done.stdout) < 100 < large.nbytes / 2**20 < measure.peak_mb()


@pytest.mark.skipif(sys.platform != "linux", reason="the burden is a shell's")
def test_the_first_call_counts_what_it_starts():
    burden = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"]
    own = time.process_time()
    done, seconds = measure.first_call(lambda: subprocess.run(burden, check=True).returncode)
    assert done == 0
    assert seconds["first_s"] > 0
    assert seconds["first_cpu_s"] > time.process_time() - own


def test_a_contestant_in_pytorch_serves(monkeypatch, capsys):
    monkeypatch.setitem(PROBLEMS, "small", SMALL)
    for name in ("plain PyTorch", "rlop eager"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("0.001\n"))
        benchmark.main(["answer", "small", name, "--rows", "50"])
        first, times = map(json.loads, capsys.readouterr().out.splitlines())
        assert first["first_s"] > 0
        assert set(times) == {"cpu", "wall", "peak_mb"}


def test_cases_have_every_number_of_runs_but_one_of_continuous_cql():
    options = benchmark.parse(["jax", "--cases", "cql", "minatar", "--runs", "1", "8"])
    chosen = [(case.problem.name, case.runs) for case in beside_jax.cases(options)]
    assert chosen == [("CQL 2x256", 1), ("MinAtar DQN", 1), ("MinAtar DQN", 8)]
    assert {len(JAX_PROBLEMS), len({p.name for p in JAX_PROBLEMS.values()})} == {10}


def test_only_one_run_has_a_plain_script_and_only_pixels_have_two_forms_of_jax(tmp_path):
    def names(problem, runs):
        case = beside_jax.Case(problem, runs)
        return list(beside_jax.starts(case, 50, "script", tmp_path))

    assert names(SMALL, 1) == ["plain PyTorch", "rlop eager", "rlop compiled", "JAX"]
    assert names(Problem("", "dqn", **PIXELS), 2)[2:] == ["JAX", "JAX, im2col"]


def test_contestants_race_and_one_that_ends_is_a_note(tmp_path, monkeypatch):
    script, broken = tmp_path / "answers.py", tmp_path / "broken.py"
    script.write_text(ANSWERS)
    broken.write_text("")
    monkeypatch.setattr(beside_jax, "start_ours", lambda *given: Answering([str(script)], {}))
    monkeypatch.setattr(beside_jax, "start_jax", lambda *given: Answering([str(broken)], {}))
    monkeypatch.setitem(JAX_PROBLEMS, "dqn-64-32", SMALL)
    before = os.sched_getaffinity(0) if sys.platform == "linux" else None

    command = ["jax", "--cases", "dqn-64-32", "--runs", "2", "--rounds", "3", "--rows", "50"]
    benchmark.main([*command, "--folder", str(tmp_path / "new")])
    about, eager, compiled, jax = beside_jax.read_lines(tmp_path / "new" / "jax.jsonl")
    assert set(about) == {"machine"}
    assert (eager["cpu_ms"], eager["peak_mb"]) == ([2.0, 3.0, 4.0], 3.0)  # the first warms up
    assert ("cold_s" in eager, compiled["cold_s"], compiled["cold_cpu_s"]) == (False, 0.5, 0.25)
    assert "ended" in jax["note"]
    assert "| small | 2 |" in (tmp_path / "new" / "jax.md").read_text()
    assert before is None or os.sched_getaffinity(0) == before


# --- the same work


def test_the_difference_is_relative_to_a_losses_mean_magnitude():
    ours_ = np.array([[[1.0], [0.0]], [[3.0], [-4.0]]])  # means 2 and 2
    theirs = ours_ + np.array([[[0.1], [0.0]], [[0.0], [-0.5]]])
    assert arrays.difference(theirs, ours_) == pytest.approx(0.25)


def test_what_jax_reads_are_the_agents_own_numbers(tmp_path):
    data = transitions(SMALL, 50)
    losses = arrays.write_arrays(tmp_path / "a.npz", ours.make_agent(SMALL, data, 2), data, 3)
    written = np.load(tmp_path / "a.npz")
    assert losses.shape == (3, 1, 2)
    assert written["rows"].shape == (3, 2, 4)
    assert (written["numbers/alpha"], written["numbers/tau"]) == (0, 1)
    for name, parameter in ours.make_agent(SMALL, data, 2).main.parameters.items():
        np.testing.assert_array_equal(written[f"parameters/q/{name}"], parameter.detach().numpy())


@pytest.mark.parametrize(
    ("problem", "form"),
    [
        (SMALL, "xla"),
        (Problem("", "discrete-cql", **VECTORS), "xla"),
        (Problem("", "dqn", **PIXELS), "xla"),
        (Problem("", "dqn", **PIXELS), "im2col"),
        (Problem("", "cql", **VECTORS), "xla"),
    ],
)
def test_losses_are_those_of_jax(problem, form, tmp_path, monkeypatch, capsys):
    """With a moving target: three calls of two updates, and a period of two."""
    process = pytest.importorskip("scripts.bench.jaxed.process", exc_type=ImportError)
    monkeypatch.setattr(arrays, "COMPARED_PERIOD", 2)
    monkeypatch.setattr(sys, "stdin", io.StringIO("0\n"))
    data = transitions(problem, 50)
    options = {} if problem.kind == "cql" else {"lr": 0.05}
    agent = ours.make_agent(problem, data, 2, **options)
    losses = arrays.write_arrays(tmp_path / "a.npz", agent, data, 6)

    kind = "cql" if problem.kind == "cql" else "dqn"
    process.main(tmp_path / "a.npz", kind, form, 2)
    first, times = map(json.loads, capsys.readouterr().out.splitlines())
    assert arrays.difference(arrays.first_losses(first), losses) < 1e-4
    assert times["cpu"] > 0


def test_the_process_of_jax_is_started_on_one_thread(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(answering, "Answering", lambda *parts: given.update(parts=parts))
    answering.start_jax(tmp_path / "a.npz", "dqn", "xla", 20, tmp_path)
    command, environment = given["parts"]
    assert command[-4:] == [str(tmp_path / "a.npz"), "dqn", "xla", "20"]
    assert "intra_op_parallelism_threads=1" in environment["XLA_FLAGS"]


# --- operations


def test_operations_of_the_backward_pass_are_counted_too():
    weight = torch.ones(3, 2, requires_grad=True)

    def update():
        loss = (torch.ones(4, 3) @ weight).square().sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        return gradient.T.max().item()

    counts = operations.count(update)
    assert counts["products"] == 2  # x W, and the transposed x times the gradient
    assert counts["copies to host"] == 1
    assert counts["views"] >= 2  # two transpositions
    assert counts["all"] == sum(value for name, value in counts.items() if name != "all")


def test_an_update_computes_with_fewer_operations_than_the_plain_script(capsys):
    benchmark.main(["operations", "--cases", "dqn-64-32", "--rows", "64"])
    _, theirs, own = (row.split()[-5:] for row in capsys.readouterr().out.splitlines())
    assert float(own[1]) == float(theirs[1]) == 11  # products
    assert float(own[2]) < float(theirs[2])
