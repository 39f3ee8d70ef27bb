"""The page of a report: its numbers, what a stranger's names do to it, and in a browser."""

import html
import json
import re
import shutil
import subprocess
from importlib.util import find_spec

import numpy as np
import pytest
from helpers.report import record

from rlop.report.across import correlations, shade, swept_settings
from rlop.report.findings import find, sentence
from rlop.report.html import write_page
from rlop.report.study import chosen_metrics, gather
from rlop.report.whole import html_report

pytestmark = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra 'report'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&$\\alpha_{$"


def study_of(folder, names=("A", "B"), seeds=4):
    """Two groups whose returns differ by far, and whose ranks are noise."""
    rng = np.random.default_rng(0)
    hparams = [{"variant": name, "seed": seed} for name in names for seed in range(seeds)]
    rows = []
    for step in (0, 500, 1000):
        level = np.repeat(np.arange(len(names)), seeds) * step / 1000
        noise = rng.normal(0, 0.01, len(hparams))
        rows.append((step, {"eval/return": level + noise, "rank/srank": 20 + 100 * noise}))
    record(hparams, rows, folder, data="gridworld?size=4", agent="DQN", steps=1000)
    return gather([folder])


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A folder of runs, whose groups have the names of strangers, its study and its page."""
    folder = tmp_path_factory.mktemp("runs")
    study = study_of(folder, names=(HOSTILE, "$x$_\x07"))
    study.notes.append(HOSTILE)
    return folder, study, html_report(study, chosen_metrics(study, None))


def numbers_in(page):
    text = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page)[1]
    return json.loads(text)


def test_the_numbers_are_those_of_ten_lines_of_numpy(reported):
    folder, _, page = reported
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = np.array([line["metrics"]["eval/return"] for line in lines])  # [T, R]

    for run, about in enumerate(numbers_in(page)["runs"]):
        expected = {
            "final": curve[-1, run],
            "average": curve[:, run].mean(),
            "peak": curve[:, run].max(),
            "unlearning": curve[:, run].max() - curve[-1, run],
        }
        assert about["metrics"]["eval/return"] == pytest.approx(expected, abs=1e-12)

    last = np.sort(curve[-1, 4:])
    mean, error = last.mean(), last.std(ddof=1) / 2
    middle, low, high = last[1:3].mean(), mean - 3.182446 * error, mean + 3.182446 * error
    # A return on this gridworld is at most 1.
    assert f"{middle:.3g}<small>[{low:.3g}, {min(high, 1):.3g}]</small>" in page


def test_the_same_records_give_the_same_page(tmp_path):
    study = study_of(tmp_path, seeds=2)
    assert html_report(study, ["rank/srank"]) == html_report(gather([tmp_path]), ["rank/srank"])


def test_a_page_loads_nothing_and_runs_one_script(reported):
    _, _, page = reported
    assert not re.findall(r'(?:src|href)="(?!#|data:,)', page)
    assert "url(http" not in page
    assert "@import" not in page
    assert len(re.findall("<script>", page)) == 1
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for name in re.findall(r"url\(#([^)]+)\)", page):
        assert name in identifiers


def test_names_of_strangers_are_text(reported):
    _, _, page = reported
    assert "<img" not in page
    assert page.count("<script") == 2
    assert html.escape(HOSTILE) in page
    assert numbers_in(page)["runs"][0]["group"] == HOSTILE
    assert "$x$_\ufffd" in page


def test_findings_say_what_differs_and_what_is_open(tmp_path):
    study = study_of(tmp_path)
    finding = find(study, "eval/return", study.tasks[0])
    assert finding.higher == {"B": ["A"]}
    assert sentence(finding, 2).startswith("B is higher than A (p ≤ 0.0")
    rank = sentence(find(study, "rank/srank", study.tasks[0]), 2)
    assert rank == "no difference beyond chance. 1 of 1 pairs are undecided."


def test_a_diverged_run_is_named_and_its_group_is_not_compared(tmp_path):
    rows = [
        (step, {"eval/return": [1, 2, 3, 4], "run/active": [1, 1, 1, step < 5]}) for step in (0, 9)
    ]
    hparams = [{"variant": name, "seed": seed} for name in "AB" for seed in range(2)]
    record(hparams, rows, tmp_path, data="gridworld?size=4")
    study = gather([tmp_path])
    page = html_report(study, ["eval/return"])
    assert "1 of 4 runs diverged: B, seed 1." in page
    text = sentence(find(study, "eval/return", study.tasks[0]), 2)
    assert text == "nothing to compare. B is not compared: 1 of 2 runs diverged."


def test_correlations_pooled_and_within_groups(tmp_path):
    # Within each group the rank falls as the return rises; the groups make both rise together.
    hparams = [{"variant": name, "seed": seed} for name in "AB" for seed in range(3)]
    metrics = {"eval/return": [1, 2, 3, 11, 12, 13], "rank/srank": [3, 2, 1, 13, 12, 11]}
    record(hparams, [(0, metrics)], tmp_path, data="x")
    study = gather([tmp_path])
    pair = study.numbers("rank/srank"), study.numbers("eval/return")
    pooled, within = correlations(study, "x", *pair)
    assert pooled > 0.5
    assert within == pytest.approx([-1, -1])


def test_swept_settings_are_drawn_over_their_values(tmp_path):
    hparams = []
    for lr in (0.1, 0.01):
        for dr3 in (0, 1, 2):
            hparams += [{"lr": lr, "dr3": dr3, "seed": seed} for seed in range(2)]
    rows = [(0, {"eval/return": np.arange(12.0)})]
    record(hparams, rows, tmp_path, data="gridworld")
    study = gather([tmp_path])
    swept = swept_settings(study)
    assert list(swept) == ["lr", "dr3"]
    assert [len(line) for line in swept["dr3"]] == [3, 3]
    page = html_report(study, ["eval/return"])
    assert "lr = 0.01" in page
    assert "dr3 = 2" in page


def test_numbers_on_colored_cells_can_be_read():
    assert shade(0).endswith("color:#000")
    assert shade(1).endswith("color:#fff")


def test_many_groups_get_panels_of_their_own(tmp_path):
    study = study_of(tmp_path, names="ABCDEFGHI", seeds=2)
    page = html_report(study, ["eval/return"])
    assert page.count("over gradient steps on gridworld?size=4, ") == 9
    assert "Groups of one or two runs have no interval." in page


def chromium(file, width):
    """Open a file in headless Chromium; return the document and the messages."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={file.parent / 'profile'}", "--enable-logging=stderr"]
    command += [f"--window-size={width},2000", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_the_page_without_a_message(reported, tmp_path):
    _, _, page = reported
    file = write_page(tmp_path / "report.html", page)
    _, messages = chromium(file, 1400)
    assert "CONSOLE" not in messages


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_legend_isolates_a_group_and_nothing_is_wider_than_the_page(reported, tmp_path):
    _, _, page = reported
    # A copy that clicks, and writes what the browser measured into the title.
    probe = """<script>
        document.querySelector("button[data-group=g1]").click();
        const parts = [...document.querySelectorAll(".run")];
        const faded = parts.filter(part => part.classList.contains("faded"));
        const others = faded.every(part => part.classList.contains("g0"));
        const width = document.documentElement.scrollWidth <= innerWidth;
        document.title = [parts.length > faded.length, faded.length > 0, others, width];
    </script></html>"""
    copy = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</html>", probe)
    document, messages = chromium(write_page(tmp_path / "copy.html", copy), 800)
    assert "CONSOLE" not in messages
    assert "<title>true,true,true,true</title>" in document
