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

from rlop.cli import main
from rlop.report.across import correlations, shade, swept_settings
from rlop.report.findings import find, sentence
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


def numbers_in(page):
    text = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page)[1]
    return json.loads(text)


def test_the_numbers_are_those_of_ten_lines_of_numpy(tmp_path):
    study = study_of(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    curve = np.array([line["metrics"]["eval/return"] for line in lines])  # [T, R]

    page = html_report(study, chosen_metrics(study, None))
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
    assert f"{middle:.3g} [{low:.3g}, {min(high, 1):.3g}]" in page


def test_the_same_records_give_the_same_page(tmp_path):
    study = study_of(tmp_path)
    assert html_report(study, ["eval/return"]) == html_report(gather([tmp_path]), ["eval/return"])


def test_a_page_loads_nothing_and_runs_one_script(tmp_path):
    page = html_report(study_of(tmp_path), ["eval/return"])
    assert not re.findall(r'(?:src|href)="(?!#|data:,)', page)
    assert "url(http" not in page
    assert "@import" not in page
    assert len(re.findall("<script>", page)) == 1
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for name in re.findall(r"url\(#([^)]+)\)", page):
        assert name in identifiers


def test_names_of_strangers_are_text(tmp_path):
    study = study_of(tmp_path, names=(HOSTILE, "$x$_\x07"))
    study.notes.append(HOSTILE)
    page = html_report(study, chosen_metrics(study, None))
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


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1400, 800])
def test_a_browser_shows_the_page_without_a_message(tmp_path, width):
    study_of(tmp_path / "runs", names=(HOSTILE, "B"))
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "--html", str(page)]) == 0
    # A copy that writes what the browser measured into the document, which is then dumped.
    probe = "<script>document.title = document.documentElement.scrollWidth</script></html>"
    copy = tmp_path / "copy.html"
    copy.write_text(
        re.sub(r"<meta http-equiv[^>]*>", "", page.read_text()).replace("</html>", probe)
    )

    def chromium(file):
        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
        command += [f"--window-size={width},2000", file.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert "CONSOLE" not in chromium(page).stderr
    title = re.search("<title>([^<]*)</title>", chromium(copy).stdout)[1]
    assert int(title) <= width
