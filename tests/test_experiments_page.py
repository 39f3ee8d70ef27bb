"""REPRODUCTION.md: bands, intervals, verdicts, and the commits of the bands."""

import math
import re
import subprocess
from datetime import date

import pytest
from helpers.experiments import ROOT, catalogue, measure, outcome, record, records

from rlop.experiments.catalogue import workshop
from rlop.experiments.pictures import draw
from rlop.experiments.provenance import Commit, band_commits
from rlop.experiments.records import Records, read_records
from rlop.experiments.reproduction import band, interval, lines_of, markdown, measure_row
from rlop.experiments.verdicts import Sample, result

FIVE = [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.0, math.inf, ">= 1"),
        (-math.inf, 2.5, "<= 2.5"),
        (0.25, 0.75, "[0.25, 0.75]"),
        (1 - 1e-6, 1 + 1e-6, "[0.999999, 1.000001]"),
    ],
)
def test_a_band_is_written_with_as_many_digits_as_it_needs(low, high, text):
    assert band(measure(low, high)) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [((), "-"), ((0.5,), "0.5"), ((2.0,) * 5, "2"), (tuple(FIVE), "3 [1.037, 4.963]")],
)
def test_an_interval_is_written_where_there_is_one(values, text):
    assert interval(Sample(values)) == text


def test_a_record_is_a_line_for_each_measure():
    text = lines_of(record(1.5), [measure(1.0, math.inf)])
    assert text.startswith("some, seed 101, run (2 s)\n")
    assert re.search(r"gain +1\.5  >= 1 +a theorem$", text)


def page_of(values, control, *measures, commits=None):
    found = records(values) + records(control, "control")
    return markdown(catalogue(*measures), Records(tuple(found), "the command"), commits or {})


def test_the_page_says_claim_numbers_verdict_control_and_provenance():
    commits = {("some", "gain"): Commit("123456789", "2026-11-26")}
    page = page_of(FIVE, [9.0] * 5, measure(0.0, 6.0), commits=commits)
    assert "2 clauses: 1 reproduced, 1 not tested." in page
    assert "| 1 | [title](#row-1) | 1 |  |  | 1 | 4 s |" in page
    assert "**reproduced**: It gains." in page
    row = "| gain | 3 [1.037, 4.963] | [0, 6] | 5 of 5 | 9 | reproduced | a theorem"
    assert f"{row} (2026-11-26, 123456789) |" in page
    assert "Not tested: no clock" in page
    assert "A note." in page
    assert "`the command` from 10 runs and controls, 2026-11-27 to 2026-11-27" in page
    assert "at commit abcdef123" in page
    assert "without git" not in page


def test_the_page_says_when_the_commits_of_the_bands_are_unknown():
    assert "written without git" in page_of(FIVE, [9.0] * 5, measure(0.0, 6.0))


def test_the_page_says_when_a_control_passes():
    assert "| 1 passes: no power |" in page_of(FIVE, [1.0] * 5, measure(0.0, 6.0))


def test_bars_in_names_do_not_end_a_cell():
    row = measure_row(result(measure(0, 1, name="|x|"), Records(())), None)
    assert row.startswith("| \\|x\\| | - | [0, 1] | 0 of 0 | - | no verdict |")


def test_a_page_without_runs_is_written_too():
    page = markdown(workshop(), Records(()), {})
    assert "Nothing was run yet." in page
    assert page.count("\n## ") == 51


def test_a_picture_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    path = draw([("some", [outcome(), outcome()]), ("none", [])], tmp_path / "p.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


TEXT = """\
abstracts:
  - clauses:
      - text: It holds.
        measures:
          - experiment: some
            name: gain
            low: 1
            source: a theorem
          - experiment: some
            name: loss
            high: 2
            source: a theorem
"""


@pytest.fixture
def git(tmp_path):
    """A repository with a catalogue, and a function that commits it on a day."""

    def run(*arguments, day="2026-01-01"):
        stamp = f"{day}T12:00:00+0000"
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            env={"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp, "PATH": "/usr/bin:/bin"},
        )

    try:
        run("init")
    except OSError:
        pytest.skip("git is not installed")
    return run


def test_the_commit_of_a_band_is_that_of_its_last_change(tmp_path, git):
    path = tmp_path / "workshop.yaml"
    path.write_text(TEXT)
    git("add", ".")
    git("commit", "-m", "first")
    # The source of one band, and the end of the other: only the second is a change of a band.
    path.write_text(TEXT.replace("theorem", "lemma", 1).replace("high: 2", "high: 3"))
    git("commit", "-a", "-m", "second", day="2026-02-02")

    commits = band_commits(path)
    assert commits["some", "gain"].day == "2026-01-01"
    assert commits["some", "loss"].day == "2026-02-02"
    assert len(commits["some", "loss"].name) == 9

    path.write_text(TEXT.replace("low: 1", "low: 0"))
    assert band_commits(path)["some", "gain"].name == ""


def test_without_git_no_commit_is_known(tmp_path):
    path = tmp_path / "workshop.yaml"
    path.write_text(TEXT)
    assert band_commits(path) == {}


SHIPPED = ROOT / "docs" / "reproduction.jsonl"


@pytest.mark.skipif(not SHIPPED.exists(), reason="the deciding runs are not shipped yet")
class TestShippedPage:
    """The page that stands in the repository follows from its records."""

    def test_every_measure_stands_on_the_page_as_its_records_have_it(self):
        page = (ROOT / "REPRODUCTION.md").read_text()
        shipped = read_records(SHIPPED)
        for abstract in workshop().abstracts:
            for one in abstract.measures:
                without_commit = measure_row(result(one, shipped), None).split(" (20")[0]
                assert without_commit in page, one

    def test_every_measure_has_a_control_that_does_not_pass(self):
        shipped = read_records(SHIPPED)
        for abstract in workshop().abstracts:
            for one in abstract.measures:
                assert result(one, shipped).has_power, one

    def test_every_picture_is_small(self):
        for path in (ROOT / "docs" / "reproduction").glob("*.png"):
            assert path.stat().st_size < 100_000, path


def test_dates_of_bands_are_dates():
    for abstract in workshop().abstracts:
        for one in abstract.measures:
            assert isinstance(one.fixed, date)
