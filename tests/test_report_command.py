"""`rlop report` in every format, comparisons of two sets of runs, and `rlop ls`."""

import csv
import io
import math
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers.report import record

from rlop.cli import main
from rlop.report.formats import as_csv, as_latex, as_markdown
from rlop.report.intervals import COVERAGE
from rlop.report.pairs import compared
from rlop.report.study import gather
from rlop.training import lock
from rlop.types import InputError

ROOT = Path(__file__).resolve().parents[1]


def two_trainings(folder):
    """`b` returns 2, 3 and 4 more than `a` at seeds 0, 1 and 2; seed 3 is in `a` alone."""
    for name, bonus in (("a", [0, 0, 0, 0]), ("b", [2, 3, 4])):
        seeds = [{"seed": seed} for seed in range(len(bonus))]
        returns = np.arange(len(bonus)) * 10.0 + bonus
        rows = [(0, {"eval/return": returns * 0}), (7, {"eval/return": returns})]
        record(seeds, rows, folder / name, agent=name, data="x.hdf5", steps=7)
    return folder


def printed(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def failed(capsys, *arguments):
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---- formats


def test_csv_has_a_line_per_group_and_metric(tmp_path, capsys):
    two_trainings(tmp_path)
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "report", str(tmp_path), "--csv"))))
    assert [row["group"] for row in rows] == ["a", "b"]
    first, second = rows
    assert float(first["iqm"]) == 15  # the middle of 0 10 20 30
    assert float(second["iqm"]) == pytest.approx((2 + 13 + 24) / 3)
    half = 4.302653 * np.std([2, 13, 24], ddof=1) / math.sqrt(3)
    assert float(second["high"]) == pytest.approx(13 + half, rel=1e-6)
    assert (second["runs"], second["diverged"]) == ("3", "0")


def test_tables_for_markdown_and_latex(tmp_path, capsys):
    two_trainings(tmp_path)
    lines = printed(capsys, "report", str(tmp_path), "--markdown").splitlines()
    assert lines[:2] == [
        "| group | Return (reward per episode, higher is better) |",
        "| --- | --- |",
    ]
    assert lines[2].startswith("| a | 15 [")
    text = printed(capsys, "report", str(tmp_path), "--latex", "--at", "best")
    assert text.splitlines()[0] == r"\begin{tabular}{lr}"
    assert r"b & 13 [" in text


def test_names_keep_to_their_cell_in_every_format(tmp_path):
    name = "=1+1 & 50 % | $x_1$"
    hparams = [{"variant": name, "seed": 0}, {"variant": "b", "seed": 0}]
    record(hparams, [(0, {"eval/return": [1.0, 2.0]})], tmp_path, data="x")
    study = gather([tmp_path])
    assert (
        next(csv.reader(io.StringIO(as_csv(study, ["eval/return"], "final").splitlines()[1])))[0]
        == f"'{name}"
    )
    assert r"| =1+1 & 50 % \| $x_1$ | 1 |" in as_markdown(study, ["eval/return"], "final")
    assert r"=1+1 \& 50 \% | \$x\_1\$ & 1 \\" in as_latex(study, ["eval/return"], "final")


def test_groups_by_a_key_and_several_folders(tmp_path, capsys):
    two_trainings(tmp_path)
    text = printed(capsys, "report", str(tmp_path / "a"), str(tmp_path / "b"), "--by", "data")
    assert text.splitlines()[0].endswith("7 runs of 2 trainings, up to step 7")
    assert text.splitlines()[3].startswith("data=x.hdf5  7")
    assert "--by ag: no run has this setting" in failed(
        capsys, "report", str(tmp_path), "--by", "ag"
    )


def test_a_report_without_runs_is_refused(tmp_path, capsys):
    assert "expected folders of runs" in failed(capsys, "report")
    assert "found no metrics.jsonl" in failed(capsys, "report", str(tmp_path))
    two_trainings(tmp_path)
    line = failed(capsys, "report", str(tmp_path), "--csv", "--at", "stability")
    assert "--at stability: expected one of final, mean" in line


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra 'report'")
def test_the_command_writes_the_page_and_says_where(tmp_path, capsys):
    two_trainings(tmp_path / "runs")
    page = tmp_path / "report.html"
    options = ["--html", str(page), "--metrics", "eval/return"]
    text = printed(capsys, "report", str(tmp_path / "runs"), *options)
    assert text.endswith(f"page: {page}\n")
    assert page.read_text().startswith("<!DOCTYPE html>")
    line = failed(
        capsys, "report", str(tmp_path / "runs"), "--html", str(tmp_path / "no" / "a.html")
    )
    assert str(tmp_path / "no") in line


# ---- comparisons


def test_a_comparison_pairs_runs_by_seed_and_data(tmp_path, capsys):
    two_trainings(tmp_path)
    text = printed(capsys, "report", "--compare", str(tmp_path / "a"), str(tmp_path / "b"))
    lines = text.splitlines()
    assert lines[0].endswith("b, 3 runs; 3 pairs")
    # Differences 2 3 4: mean 3, s = 1, half width 4.303 / sqrt 3; t = 3 sqrt 3 on two degrees.
    p = 1 - math.sqrt(27) / math.sqrt(2 + 27)
    expected = ["Return", "10", "13", "3", "0.516", "to", "5.48", "3", "of", "3", "3", f"{p:.3g}"]
    assert lines[3].split() == expected
    assert compared(gather([tmp_path]), "a", "b", ["eval/return"]).splitlines()[3] == lines[3]


def test_pairs_also_agree_in_what_varies_within_a_set(tmp_path):
    for name, gain in (("a", 0), ("b", 5)):
        hparams = [{"lr": lr, "seed": seed} for lr in (1, 2) for seed in (0, 1)]
        values = np.array([1, 2, 30, 40]) + gain
        record(hparams, [(0, {"eval/return": values})], tmp_path / name, agent=name, data="x")
    study = gather([tmp_path])
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    line = compared(study, first, second, ["eval/return"]).splitlines()[3].split()
    assert line[:4] == ["Return", "18.2", "23.2", "5"]
    assert line[-2] == "4"


def test_diverged_runs_are_counted_in_a_comparison(tmp_path):
    hparams = [{"variant": name, "seed": seed} for name in "ab" for seed in range(3)]
    record(hparams, [(0, {"eval/return": [1, 2, 3, 4, 6, math.nan]})], tmp_path, data="x")
    line = compared(gather([tmp_path]), "a", "b", ["eval/return"]).splitlines()[3]
    assert "2 (1 diverged)" in line
    assert "2 of 3" in line


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    two_trainings(tmp_path)
    study = gather([tmp_path])
    with pytest.raises(InputError, match="--compare c: expected a folder of runs, or a group: 'a'"):
        compared(study, "a", "c", ["eval/return"])
    record([{"seed": 9}], [(0, {"eval/return": [1]})], tmp_path / "c", agent="c", data="x.hdf5")
    with pytest.raises(InputError, match="no two runs have the same seed and data"):
        compared(gather([tmp_path]), "a", "c", ["eval/return"])


# ---- ls


def test_ls_says_state_steps_and_score(tmp_path, capsys):
    two_trainings(tmp_path)
    rows = [(step, {"eval/return": [1, 9], "run/active": [1, step < 5]}) for step in (0, 5)]
    cut = tmp_path / "cut"
    record([{"seed": 0}, {"seed": 1}], rows, cut, agent="DQN", data="x", steps=100)
    held = lock.acquire(tmp_path / "b")

    lines = printed(capsys, "ls", str(tmp_path), str(tmp_path / "a")).splitlines()
    lock.release(held)
    assert lines[0].split() == ["training", "agent", "runs", "state", "steps", "score"]
    cells = [" ".join(line.split()[1:]) for line in lines[1:]]
    assert cells == [
        "a 4 finished 7 of 7 15 (Return)",
        "b 3 running 7 of 7 13 (Return)",
        "DQN 2 ended early, 1 diverged 5 of 100 1 (Return)",
    ]
    assert "found no metrics.jsonl" in failed(capsys, "ls", str(tmp_path / "a" / "r0"))


# ---- the page on reports


def test_the_commands_of_the_page_on_reports_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "report.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    for name, bonus in (("first", 0), ("second", 1)):
        rows = [(0, {"eval/return": [bonus, 2], "rank/srank": [3, 4]})]
        seeds = [{"seed": 0}, {"seed": 1}]
        record(seeds, rows, tmp_path / "runs" / name, agent=name, data="x", steps=0)
    others = {
        "d3rlpy_logs/CQL_0/params.json": "{}",
        "d3rlpy_logs/CQL_0/environment.csv": "1,100,2.5\n",
        "chart.csv": "Step,cql-s0 - eval_score\n0,1\n",
        "sb3_logs/monitor.csv": '#{"t_start": 0}\nr,l,t\n1,2,3\n',
    }
    for name, text in others.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    has_pictures = find_spec("matplotlib") is not None
    for line in "".join(blocks).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "rlop"
        if has_pictures or not {"--html", "--png"} & set(arguments):
            assert main(arguments) == 0, line


def test_the_page_states_the_coverage_that_the_report_states():
    page = (ROOT / "docs" / "report.md").read_text()
    for runs, shares in COVERAGE.items():
        assert f"| {' | '.join(map(str, shares))} |" in page, runs
