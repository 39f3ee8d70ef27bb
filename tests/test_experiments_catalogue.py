"""The catalogue is whole and points at what exists; records, tables and scripts, end to end."""

import importlib.util
import json
from pathlib import Path

import pytest

from rlop.experiments import Measure, Outcome
from rlop.experiments.catalogue import (
    CATALOGUE,
    KINDS,
    PENDING,
    Row,
    available,
    experiment_names,
    resolve,
)
from rlop.experiments.reproduction import band, markdown, table
from rlop.experiments.running import draw, measure_of, run_experiment, to_record
from rlop.types import InputError

ROOT = Path(__file__).resolve().parents[1]


def test_there_are_51_abstracts_in_order():
    assert [row.number for row in CATALOGUE] == list(range(1, 52))
    assert len({row.title for row in CATALOGUE}) == 51


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: str(row.number))
def test_every_field_is_there(row):
    assert row.kind in KINDS
    for text in (row.title, row.authors, row.claim, row.use):
        assert text.strip() == text != ""
        assert text[-1] in ".?" or text in (row.title, row.authors)
    if row.kind in ("module", "experiment", "probe"):
        assert row.homes
    if row.kind == "experiment":
        assert row.experiments


@pytest.mark.parametrize("name", sorted({home for row in CATALOGUE for home in row.homes}))
def test_every_home_imports(name):
    if name in PENDING:
        pytest.skip("pending")
    assert resolve(name) is not None


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_is_there(name):
    if name in PENDING:
        pytest.skip("pending")
    assert name in available()
    module = resolve(f"rlop.experiments.{name}")
    assert callable(module.run)
    assert len(module.__doc__.splitlines()) > 2  # what is shown, and after whom


def test_a_name_that_is_not_there():
    with pytest.raises(InputError, match="max_nrom"):
        resolve("rlop.projections.max_nrom")
    with pytest.raises(
        InputError, match=r"experiment 'robust_rigde': unknown, did you mean 'robust_ridge'"
    ):
        run_experiment("robust_rigde")


def row(*experiments):
    return Row(
        1, "title", "authors", "experiment", ("rlop",), "Claim.", experiments, "Use.", "1234.56789"
    )


def test_the_verdict_is_computed():
    assert row().verdict({}) == "not testable here"
    assert row("a", "b").verdict({"a": "reproduced", "b": "reproduced"}) == "reproduced"
    assert row("a", "b").verdict({"a": "reproduced", "b": "not reproduced"}) == "not reproduced"
    assert row("a", "b").verdict({"a": "reproduced"}) == "not run"
    assert row("a", "b").verdict({"b": "not reproduced"}) == "not reproduced"


def outcome():
    measures = (
        Measure("within", 1.5, 1.0, 2.0, "two"),
        Measure("beyond |x|", float("nan"), 0.0, float("inf"), "any"),
    )
    return Outcome(
        measures, {"curve": ([1, 2, 3], [1.0, float("inf"), 3.0])}, x="x", y="y", log="xy"
    )


def test_a_record_survives_json():
    record = json.loads(json.dumps(to_record("some", outcome(), 1.0, 0), allow_nan=False))
    assert record["verdict"] == "not reproduced"
    assert measure_of(record["measures"][0]) == outcome().measures[0]
    assert not measure_of(record["measures"][1]).holds
    assert measure_of(record["measures"][1]).high == float("inf")


def test_bands_in_words():
    assert band(Measure("", 0, 1.0, float("inf"), "")) == ">= 1"
    assert band(Measure("", 0, float("-inf"), 2.5, "")) == "<= 2.5"
    assert band(Measure("", 0, 0.25, 0.75, "")) == "[0.25, 0.75]"
    assert band(Measure("", 0, 1 - 1e-6, 1 + 1e-6, "")) == "[0.999999, 1.000001]"


def test_a_failure_hides_nothing():
    records = [{"name": "broken", "error": "boom"}, to_record("some", outcome(), 1.0, 0)]
    text = table(records)
    assert "FAILED: boom" in text
    assert "! beyond |x|" in text
    page = markdown(records, {"torch": "1"}, [row("some"), row("broken")])
    assert "1 not reproduced, 1 not run." in page
    assert "`broken`: boom" in page
    assert "| beyond \\|x\\| | nan | >= 0 | any | no |" in page


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    assert draw(outcome(), tmp_path / "p.png", "title").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture
def reproduce():
    """scripts/reproduce.py as a module; each experiment still is a process of its own."""
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "scripts" / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_end_to_end(reproduce, tmp_path, capsys):
    reproduce.main(["concat_inputs", "robust_ridge", "--out", str(tmp_path)])
    assert "concat_inputs            reproduced" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["name"] for r in results["experiments"]] == ["concat_inputs", "robust_ridge"]
    assert all(m["holds"] for r in results["experiments"] for m in r["measures"])
    page = (tmp_path / "REPRODUCTION.md").read_text()
    assert page.count("| reproduced |") == 2
    title = "Mitigating deep double descent by concatenating inputs"
    assert f"| 25 | {title} | experiment | reproduced | 4 of 4 |" in page
    assert (tmp_path / "robust_ridge.png").exists()


def test_script_refuses_an_unknown_name(reproduce, tmp_path):
    with pytest.raises(InputError, match="did you mean 'concat_inputs'"):
        reproduce.main(["concat_input", "--out", str(tmp_path)])


def test_script_reports_what_fails_and_runs_the_rest(reproduce, tmp_path, capsys, monkeypatch):
    worker = tmp_path / "worker.py"  # fails for one name, writes a record for the other
    record = to_record("robust_ridge", outcome(), 1.0, 0)
    lines = "import pathlib, sys", "name, out = sys.argv[1], pathlib.Path(sys.argv[5])"
    fails = "if name == 'concat_inputs': sys.exit('boom')"
    worker.write_text(
        "\n".join(
            [*lines, fails, f"(out / 'robust_ridge.json').write_text({json.dumps(record)!r})"]
        )
    )
    monkeypatch.setattr(reproduce, "WORKER", worker)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["concat_inputs", "robust_ridge", "--out", str(tmp_path)])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    assert "concat_inputs            FAILED: boom" in shown
    assert "robust_ridge             not reproduced" in shown
    assert "`concat_inputs`: boom" in (tmp_path / "REPRODUCTION.md").read_text()
