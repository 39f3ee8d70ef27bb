"""What `scripts/benchmark.py gpu` writes, on tiny problems and the CPU; no timing is asserted."""

import argparse
import math
import sys
from functools import partial

import pytest
import torch
from helpers.experiments import ROOT

sys.path.append(str(ROOT))

from rlop.types import InputError
from scripts import benchmark
from scripts.bench.answering import Answering
from scripts.bench.gpu import checks, feeding, precision, run, speed, stacks
from scripts.bench.gpu.text import block, cell, filled, report
from scripts.bench.gpu.timing import GRAPH, HOW, Effort
from scripts.bench.problems import Problem

SMALL = Problem("small", "dqn", hidden=(4,), batch=4, obs=(3,), actions=2)
SMALL_CQL = Problem("small CQL", "cql", hidden=(4, 4), batch=4, obs=(3,), actions=2)
QUICK = Effort("cpu", rounds=1, seconds=0)
DOCS = ROOT / "docs"

# A stand-in for the process of JAX: the same losses whatever it is given, then times a line.
ANSWERS = """
import json, sys
first = {"losses": [[[1.0] * RUNS]] * 2, "first_s": 0.5, "device_mib": 2.0, "about": "none"}
print(json.dumps(first), flush=True)
for line in sys.stdin:
    print(json.dumps({"wall": 1000 / (float(line) + 7)}), flush=True)
"""


@pytest.fixture(autouse=True)
def settings_of_torch():
    """Restore what the pieces set for their whole process."""
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    allowed = torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(autouse=True)
def short_launches(monkeypatch):
    """Let two updates be a launch, and four a comparison."""
    monkeypatch.setitem(HOW, GRAPH, 2)
    for module in (checks, feeding, precision):
        monkeypatch.setattr(module, "LAUNCH", 2)
    monkeypatch.setattr(checks, "UPDATES", 4)
    monkeypatch.setattr(stacks, "COMPARED", 2)


# --- text


def test_cells():
    values = [None, True, False, 1234.5, 0.012345, 32, "graph"]
    assert [cell(value) for value in values] == [
        "-",
        "yes",
        "no",
        "1,234",
        "0.0123",
        "32",
        "graph",
    ]


ROWS = [
    {"piece": "machine", "card": "old"},
    {"piece": "machine", "card": "new", "GiB": 80.0},
    {"piece": "a", "case": "x", "R": 1},
    {"piece": "a", "case": "y", "note": "none"},
    {"piece": "a", "part": "z", "error": "broken"},
    {"piece": "b", "error": "stopped"},
]
TABLE = "| case | R | note |\n| --- | --- | --- |\n| x | 1 | - |\n| y | - | none |"


def test_a_report_has_the_measured_rows_and_the_errors():
    assert block(ROWS, "a") == TABLE + "\n\nFailed: z: broken"
    text = report(ROWS, {"a": "First", "b": "Second", "c": "Not measured"})
    assert text.startswith("card new, GiB 80\n\n### First\n\n| case")
    assert text.endswith("broken\n\n### Second\n\nFailed: stopped\n")


def test_a_page_keeps_its_prose_and_takes_new_tables():
    places = "<!-- {0} -->\nold {0}\n<!-- /{0} -->\n"
    page = "Title\n" + places.format("machine") + "Prose\n" + places.format("a") + "End\n"
    rows = [row for row in ROWS if row["piece"] != "b"]
    new = filled(page, rows)
    assert "old" not in new.replace("card old", "")
    assert f"Prose\n<!-- a -->\n\n{TABLE}\n\nFailed: z: broken\n\n<!-- /a -->\nEnd\n" in new
    assert filled(new, rows) == new
    with pytest.raises(InputError, match="no place for b: expected <!-- b --> and <!-- /b -->"):
        filled(page, ROWS)


def test_the_page_in_the_docs_has_the_tables_of_its_record(tmp_path):
    page = tmp_path / "gpu.md"
    page.write_text((DOCS / "gpu.md").read_text())
    benchmark.main(["gpu-page", str(DOCS / "gpu.jsonl"), str(page)])
    assert page.read_text() == (DOCS / "gpu.md").read_text()
    for piece in run.PIECES:
        assert f"<!-- {piece} -->\n\n| case |" in page.read_text()


# --- pieces


def rows_of(piece, tmp_path):
    """Run the parts of a piece; return the lines of its record."""
    record = tmp_path / "gpu.jsonl"
    run.piece(argparse.Namespace(piece=piece, record=record, **QUICK._asdict()))
    return run.read_rows(record)


def test_a_part_that_fails_is_a_line_and_the_others_go_on(tmp_path, monkeypatch):
    def broken(problem, effort):
        yield {"case": problem.name, "R": 1}
        raise RuntimeError("no\nmemory")

    def whole(effort):
        yield {"case": effort.device}

    monkeypatch.setattr(speed, "MANY", [partial(broken, SMALL), whole])
    assert rows_of("many", tmp_path) == [
        {"piece": "many", "case": "small", "R": 1},
        {"piece": "many", "part": "small", "error": "RuntimeError: no memory"},
        {"piece": "many", "case": "cpu"},
    ]


@pytest.mark.parametrize(
    ("source", "limit", "error"),
    [
        ("", 60, ""),
        ("raise SystemExit(3)", 60, "ended with exit code 3"),
        ("import time; time.sleep(60)", 0.2, "stopped after 0 s"),
    ],
)
def test_a_process_that_fails_or_hangs_is_said(tmp_path, source, limit, error):
    script = tmp_path / "script.py"
    script.write_text(source)
    options = argparse.Namespace(**QUICK._asdict(), limit=limit)
    assert run.run_piece("many", options, str(script), tmp_path / "gpu.jsonl") == error


def test_measuring_again_replaces_the_lines_of_these_pieces_only(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "run_piece", lambda *arguments: "not here")
    for piece in ("single", "many", "many"):
        command = ["gpu", "--device", "cpu", "--folder", str(tmp_path), "--pieces", piece]
        benchmark.main(command)
    lines = run.read_rows(tmp_path / "gpu.jsonl")
    failed = [row for row in lines if row["piece"] != "machine"]
    assert failed == [{"piece": piece, "error": "not here"} for piece in ("single", "many")]
    assert (tmp_path / "gpu.md").read_text().count("Failed: not here") == 2


def test_one_run_and_many(monkeypatch):
    monkeypatch.setattr(speed, "ROWS", 50)
    monkeypatch.setattr(speed, "RUNS", (1, 2))
    one = list(speed.single(SMALL, QUICK))
    assert [row["how"] for row in one] == ["plain PyTorch", "eager", GRAPH]
    assert (one[0]["times plain"], one[1]["times eager"]) == (1, 1)
    many = list(speed.many(SMALL, QUICK))
    assert [(row["how"], row["R"]) for row in many] == [
        ("eager", 1),
        ("eager", 2),
        (GRAPH, 1),
        (GRAPH, 2),
    ]
    assert all(row["lowest"] <= row["run updates/s"] <= row["highest"] for row in many)


@pytest.mark.parametrize("name", ["DQN, DR3, max-norm", "Neural TD, max-norm"])
def test_equal_agents_are_found_equal(name, monkeypatch):
    monkeypatch.setattr(checks, "ROWS", 300)
    (case,) = [case for case in checks.COMPARED if case.name == name]
    for row in checks.equality(case, QUICK):
        assert row["graph equals eager to the bit"]
        assert row["largest difference"] == row["metrics differ, GPU and CPU"] == 0


def test_differences_by_hand():
    def difference(a, b, **options):
        return checks.difference({"x": torch.tensor(a)}, {"x": torch.tensor(b)}, **options)

    assert difference([1.0, 5.0], [2.0, 4.0]) == 0.25
    assert difference([0.0], [1.3e-9]) == pytest.approx(1)
    assert difference([0.0], [1.3e-9], least=1.0) == pytest.approx(1.3e-9)
    assert difference([30.0], [20.0], least=1.0) == 0.5
    assert math.isnan(difference([math.nan], [1.0]))
    changed = checks.tensors_of({"a": [torch.ones(2), {"b": torch.zeros(1)}], "c": 3})
    assert set(changed) == {"/a/0", "/a/1/b"}
    assert not checks.all_equal(changed, {**changed, "/a/1/b": torch.ones(1)})


def test_a_resumed_training_is_compared(monkeypatch):
    monkeypatch.setattr(checks, "ROWS", 300)
    (row,) = checks.resume(checks.COMPARED[1], QUICK)
    assert row["resumed equals uninterrupted to the bit"]
    assert row["read on the CPU to the bit"]


def test_runs_beside_another_process(tmp_path, monkeypatch):
    script = tmp_path / "answers.py"
    script.write_text(ANSWERS.replace("RUNS", "3"))
    monkeypatch.setattr(stacks, "start_jax", lambda *given: Answering([str(script)], {}))
    for name, value in {"ROWS": 50, "RUNS": 3, "FORMS": {"small": ["xla"]}}.items():
        monkeypatch.setattr(stacks, name, value)
    rows = {row["how"]: row for row in stacks.stacks(SMALL, QUICK)}
    assert rows["JAX, xla, R = 3"]["run updates/s"] == pytest.approx(3 * 7)
    assert rows[f"rlop, {GRAPH}, R = 3"]["this over rlop's graph"] == 1

    script.write_text("")
    *_, last = stacks.stacks(SMALL, QUICK)
    assert last["how"] == "JAX, xla, R = 3"
    assert "ended" in last["note"]


def test_curves_and_cost_of_each_precision(monkeypatch):
    for name, value in {"CQL": SMALL_CQL, "ROWS": 50, "UPDATES": 4, "WINDOW": 2}.items():
        monkeypatch.setattr(precision, name, value)
    curves = list(precision.precision(QUICK))
    assert [row["how"] for row in curves] == list(precision.FORMS)
    assert curves[0]["loss/td, differs by"] == 0
    assert curves[0]["loss/td, between seeds"] > 0
    assert curves[2]["q/data, differs by"] > 0  # bf16 rounds on every device
    costs = list(precision.cost(1, QUICK))
    assert [row["how"] for row in costs] == list(precision.FORMS)


def test_frames_are_fed_from_memory_and_from_a_file(monkeypatch):
    monkeypatch.setattr(feeding, "FRAMES", 40)
    rows = list(feeding.feeding(2, QUICK))
    assert len(rows) == 5
    assert {row["frames in memory live on"] for row in rows} == {"cpu"}
    assert list(feeding.lives(QUICK)) == []
