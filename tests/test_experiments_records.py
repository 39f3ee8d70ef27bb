"""Records of experiments: JSON, tables, REPRODUCTION.md, pictures, and `scripts/reproduce.py`."""

import json
import math

import pytest
from helpers.experiments import abstract, outcome, script

from rlop.experiments import Measure, Outcome
from rlop.experiments.reproduction import band, markdown, table
from rlop.experiments.running import draw, measure_of, run_experiment, to_record
from rlop.types import InputError


@pytest.mark.parametrize(
    ("value", "low", "high", "holds"),
    [
        (1.0, 1.0, 2.0, True),
        (2.0, 1.0, 2.0, True),
        (5.0, 1.0, math.inf, True),
        (0.999, 1.0, 2.0, False),
        (math.nan, -math.inf, math.inf, False),
    ],
)
def test_a_band_is_closed_and_nan_is_outside(value, low, high, holds):
    assert Measure("", value, low, high, "").holds == holds


def test_a_verdict_needs_every_measure_and_at_least_one():
    good = Measure("a", 1, 0, 2, "")
    bad = Measure("b", 3, 0, 2, "")
    assert Outcome((good,), {}).verdict == "reproduced"
    assert Outcome((good, bad), {}).verdict == "not reproduced"
    assert Outcome((), {}).verdict == "not reproduced"


def test_an_unknown_experiment_is_refused_with_the_nearest_name():
    message = r"experiment 'robust_rigde': unknown, did you mean 'robust_ridge'"
    with pytest.raises(InputError, match=message):
        run_experiment("robust_rigde")


def test_a_record_survives_json_with_infinity_and_nan():
    text = json.dumps(to_record("some", outcome(), 1.0, 0), allow_nan=False)
    record = json.loads(text)
    assert record["verdict"] == "not reproduced"

    first, second = map(measure_of, record["measures"])
    assert first == outcome().measures[0]
    assert not second.holds
    assert second.high == math.inf


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
    assert band(Measure("", 0, low, high, "")) == text


def test_tables_show_failures_and_escape_bars():
    records = [{"name": "broken", "error": "boom"}, to_record("some", outcome(), 1.0, 0)]
    text = table(records)
    assert "FAILED: boom" in text
    assert "! beyond |x|" in text

    page = markdown(records, {"torch": "1"}, [abstract("some"), abstract("broken", number=2)])
    assert "1 not reproduced, 1 not run." in page
    assert "| 1 | title | probe | not reproduced | 1 of 2 |" in page
    assert "`broken`: boom" in page
    assert "| beyond \\|x\\| | nan | >= 0 | any | no |" in page
    assert page.endswith("Run with torch 1.\n")


def test_a_picture_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    assert draw(outcome(), tmp_path / "p.png", "title").read_bytes()[:4] == b"\x89PNG"


def test_reproduce_writes_results_page_and_pictures(tmp_path, capsys):
    script("reproduce").main(["concat_inputs", "--out", str(tmp_path)])
    assert "concat_inputs            reproduced" in capsys.readouterr().out

    results = json.loads((tmp_path / "results.json").read_text())["experiments"]
    (record,) = results
    assert record["name"] == "concat_inputs"
    assert all(measure["holds"] for measure in record["measures"])

    page = (tmp_path / "REPRODUCTION.md").read_text()
    title = "Mitigating deep double descent by concatenating inputs"
    assert page.count("| reproduced |") == 1
    assert f"| 25 | {title} | experiment | reproduced | 4 of 4 |" in page
    assert (tmp_path / "concat_inputs.png").exists()


def test_reproduce_keeps_earlier_results_and_replaces_those_run_again(tmp_path):
    reproduce = script("reproduce")
    old = to_record("robust_ridge", outcome(), 1.0, seed=0)
    other = to_record("concat_inputs", outcome(), 1.0, seed=0)
    reproduce.write([old, other], tmp_path)
    reproduce.write([to_record("robust_ridge", outcome(), 2.0, seed=1)], tmp_path)

    results = json.loads((tmp_path / "results.json").read_text())["experiments"]
    assert [(r["name"], r["seed"]) for r in results] == [("concat_inputs", 0), ("robust_ridge", 1)]


def test_reproduce_refuses_an_unknown_name(tmp_path):
    with pytest.raises(InputError, match="did you mean 'concat_inputs'"):
        script("reproduce").main(["concat_input", "--out", str(tmp_path)])


def test_reproduce_reports_what_fails_and_runs_the_rest(tmp_path, capsys, monkeypatch):
    # This worker fails for one name and writes a record for the other.
    record = json.dumps(to_record("robust_ridge", outcome(), 1.0, 0))
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import pathlib, sys\n"
        "name, out = sys.argv[1], pathlib.Path(sys.argv[5])\n"
        "if name == 'concat_inputs': sys.exit('boom')\n"
        f"(out / 'robust_ridge.json').write_text({record!r})\n"
    )
    reproduce = script("reproduce")
    monkeypatch.setattr(reproduce, "WORKER", worker)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["concat_inputs", "robust_ridge", "--out", str(tmp_path)])

    assert stopped.value.code == 1
    shown = capsys.readouterr().out
    assert "concat_inputs            FAILED: boom" in shown
    assert "robust_ridge             not reproduced" in shown
    assert "`concat_inputs`: boom" in (tmp_path / "REPRODUCTION.md").read_text()
