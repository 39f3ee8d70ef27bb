"""`scripts/reproduce.py` and `supervised.py`: what runs, what is not run again, what fails."""

import json
from dataclasses import asdict, replace

import pytest
from helpers.experiments import record, script

from rlop.experiments import Outcome
from rlop.experiments.catalogue import workshop
from rlop.experiments.records import installed, read_records, source_hash
from rlop.experiments.running import file_of, save
from rlop.types import InputError

NAME = "single_neuron"

# A worker that writes what it ran into a log, and the record that stands next to it. It takes the
# command line of supervised.py: NAME --seed SEED --part PART --out OUT.
WORKER = """\
import json, pathlib, sys
name, seed, part, out = sys.argv[1], int(sys.argv[3]), sys.argv[5], pathlib.Path(sys.argv[7])
with open(out / "ran", "a") as log:
    log.write(f"{name} {seed} {part}\\n")
if name == "robust_ridge":
    sys.exit("boom")
content = json.loads((pathlib.Path(__file__).parent / "part.json").read_text())
content["record"] |= {"seed": seed, "part": part}
(out / "parts").mkdir(exist_ok=True)
(out / "parts" / f"{name}.{seed}.{part}.json").write_text(json.dumps(content))
"""


def made(seed=101, part="run", name=NAME):
    """A record that counts as finished here."""
    values = {measure.name: 1.0 for measure in workshop().measures_of(name)}
    fresh = {"values": values, "source": source_hash(name), "versions": installed()}
    return replace(record(1.0, seed, part, name), **fresh)


@pytest.fixture
def reproduce(tmp_path, monkeypatch, request):
    """The script with a worker that does nothing, and the folder of its results."""
    folder = tmp_path / "worker"
    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    curves = {"a": ([1.0, 2.0], [3.0, 4.0])}
    save(made(), Outcome({}, curves), folder).rename(folder / "part.json")

    module = script("reproduce")
    monkeypatch.setattr(module, "WORKER", folder / "worker.py")
    monkeypatch.setattr(module, "band_commits", dict)  # git and matplotlib take their time
    if not getattr(request, "param", False):
        monkeypatch.setattr(module, "draw_pictures", lambda outcomes, folder: None)
    out = tmp_path / "out"

    def run(*argv):
        (out / "ran").unlink(missing_ok=True)
        module.main([*argv, "--out", str(out)])
        return ran(out)

    return run, out


def ran(out):
    """The lines of the worker's log."""
    return sorted((out / "ran").read_text().splitlines()) if (out / "ran").exists() else []


def test_run_and_control_of_every_seed_run_once(reproduce):
    run, out = reproduce
    expected = [f"{NAME} {seed} {part}" for seed in (101, 102) for part in ("control", "run")]
    assert run(NAME, "--seeds", "2") == expected
    assert run(NAME, "--seeds", "2") == []
    assert run(NAME, "--seeds", "3") == [f"{NAME} 103 control", f"{NAME} 103 run"]

    shipped = read_records(out / "docs" / "reproduction.jsonl")
    assert len(shipped.records) == 6
    assert shipped.command.startswith(f"python scripts/reproduce.py {NAME} --seeds 3")


@pytest.mark.parametrize("spoiled", [{"source": "older"}, {"versions": {"torch": "0.1"}}])
def test_what_changed_is_run_again(reproduce, spoiled):
    run, out = reproduce
    run(NAME, "--seeds", "1")
    save(replace(made(), **spoiled), Outcome({}, {}), out)
    assert run(NAME, "--seeds", "1") == [f"{NAME} 101 run"]


def test_what_was_cut_short_is_run_again(reproduce, capsys):
    run, out = reproduce
    run(NAME, "--seeds", "1")
    path = file_of(out, NAME, 101, "control")
    path.write_text(path.read_text()[:50])
    assert run(NAME, "--seeds", "1") == [f"{NAME} 101 control"]
    assert "damaged, expected the record of an experiment; it runs again" in capsys.readouterr().out


def test_rows_choose_the_experiments_of_all(reproduce):
    run, _ = reproduce
    assert run("all", "--seeds", "1", "--rows", "22") == [f"{NAME} 101 control", f"{NAME} 101 run"]


def test_fast_runs_one_seed_and_gives_no_verdict(reproduce, capsys):
    run, out = reproduce
    assert run("all", "--fast", "--rows", "22") == [f"{NAME} 1 run"]
    assert "one seed: no verdict" in capsys.readouterr().out
    assert not (out / "REPRODUCTION.md").exists()


def test_a_failure_is_named_at_the_end_and_the_rest_runs(reproduce, capsys):
    run, out = reproduce
    with pytest.raises(SystemExit) as stopped:
        run("robust_ridge", NAME, "--seeds", "1")

    assert stopped.value.code == 1
    assert len(ran(out)) == 4
    end = capsys.readouterr().out.split("\nfailed:\n")[1]
    assert "robust_ridge, seed 101, run: boom" in end
    assert "robust_ridge, seed 101, control: boom" in end
    assert len(read_records(out / "docs" / "reproduction.jsonl").records) == 2


def test_a_process_that_hangs_is_stopped(reproduce, tmp_path, monkeypatch):
    module = script("reproduce")
    worker = tmp_path / "hangs.py"
    worker.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(module, "WORKER", worker)
    monkeypatch.setattr(module, "LIMIT", 0.2)
    assert module.run_job(module.Job(NAME, 101, "run"), tmp_path) == "no result after 0.2 s"


def test_the_page_is_written_again_from_the_records_alone(reproduce):
    run, out = reproduce
    run(NAME, "--seeds", "1")
    page = out / "REPRODUCTION.md"
    first = page.read_text()
    page.unlink()
    assert run("page") == []
    assert page.read_text() == first


@pytest.mark.parametrize("reproduce", [True], indirect=True)
def test_every_abstract_with_curves_gets_a_picture(reproduce):
    pytest.importorskip("matplotlib")
    run, out = reproduce
    run(NAME, "--seeds", "1")
    assert [path.name for path in (out / "docs" / "reproduction").iterdir()] == ["22.png"]
    assert "](docs/reproduction/22.png)" in (out / "REPRODUCTION.md").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["single_neuro"], "did you mean 'single_neuron'"),
        (["all", "--rows", "52"], "row 52: unknown"),
        (["page"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_one_line(argv, message, reproduce):
    with pytest.raises(InputError, match=message):
        reproduce[0](*argv)


def test_supervised_prints_every_measure_with_its_band_and_no_verdict(tmp_path, capsys):
    script("supervised").main([NAME, "--seed", "2", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "single_neuron, seed 2, run" in shown
    for measure in workshop().measures_of(NAME):
        assert measure.name in shown
    assert "one seed: no verdict" in shown
    content = json.loads(file_of(tmp_path, NAME, 2, "run").read_text())
    assert content["record"].keys() == asdict(made()).keys()
