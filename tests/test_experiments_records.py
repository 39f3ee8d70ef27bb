"""Records of experiments: what makes one out of date, JSON, and the records that are shipped."""

import json
import math
from dataclasses import replace
from datetime import date

import pytest
from helpers.experiments import ROOT, outcome, record, records

from rlop.experiments import records as module
from rlop.experiments.catalogue import workshop
from rlop.experiments.records import (
    Records,
    is_finished,
    read_records,
    seconds_per_seed,
    source_hash,
    write_records,
)
from rlop.experiments.running import load, save
from rlop.types import InputError

SOURCE = '"""Read the data."""\nfrom rlop.experiments.part import factor\n\nSIZE = 3\n'
PART = "def factor():\n    return 2  # twice\n"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of two experiments' modules, one of which imports the other, instead of ours."""
    monkeypatch.setattr(module, "HERE", tmp_path)

    def write(source=SOURCE, part=PART):
        (tmp_path / "some.py").write_text(source)
        (tmp_path / "part.py").write_text(part)
        source_hash.cache_clear()
        return source_hash("some")

    yield write
    source_hash.cache_clear()


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"source": SOURCE.replace("SIZE = 3", "SIZE = 4")}, True),
        ({"part": PART.replace("return 2", "return 3")}, True),
        ({"source": SOURCE.replace("Read", "Load")}, False),
        ({"source": SOURCE.replace("\n\n", "\n\n# The size.\n\n")}, False),
    ],
)
def test_the_hash_is_that_of_the_code_and_of_what_it_imports(sources, changed, differs):
    assert (sources() != sources(**changed)) == differs


def test_a_record_is_finished_while_source_and_versions_are_the_same(sources):
    made = replace(record(1.0), source=sources())
    assert is_finished(made, {"torch": "2.0"})
    assert not is_finished(made, {"torch": "2.1"})
    sources(part="factor = None\n")
    assert not is_finished(made, {"torch": "2.0"})


def test_records_survive_json_with_infinity_and_nan(tmp_path):
    values = {"a": 1 + 1e-12, "b": math.inf, "c": math.nan}
    other = replace(record(2.0, 102), versions={"torch": "9"})
    written = Records((replace(record(1.0), values=values), other), "command")
    write_records(written, tmp_path / "docs" / "all.jsonl")

    again = read_records(tmp_path / "docs" / "all.jsonl")
    assert again.command == "command"
    first, second = again.records
    assert first.values["a"] == values["a"]
    assert first.values["b"] == math.inf
    assert math.isnan(first.values["c"])
    assert first.versions == {"torch": "2.0"}
    assert second == other


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", "3", '{"seed": 1}', json.dumps({**vars(record(1.0)), "part": "half"})]
    + [json.dumps({**vars(record(1.0)), "values": value}) for value in (None, {"a": "b"}, [1])],
)
def test_a_damaged_record_is_one_line_that_names_file_and_line(line, tmp_path):
    path = tmp_path / "all.jsonl"
    path.write_text('{"command": ""}\n' + line + "\n")
    with pytest.raises(InputError, match=r"all\.jsonl, line 2: damaged, expected") as raised:
        read_records(path)
    assert "\n" not in str(raised.value)


def test_records_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        read_records(tmp_path / "none.jsonl")


def test_a_part_is_kept_with_its_curves(tmp_path):
    path = save(record(1.0), outcome(), tmp_path)
    again, kept = load(path)
    assert again == record(1.0)
    assert (kept.x, kept.y, kept.log) == ("x", "y", "xy")
    x, y = kept.curves["curve"]
    assert x.tolist() == [1, 2, 3]
    assert y[0] == 1
    assert math.isnan(y[1])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"record": {}, "curves": 3}'])
def test_a_damaged_part_is_refused(content, tmp_path):
    path = tmp_path / "part.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"part\.json: damaged"):
        load(path)


def test_the_cost_of_a_seed_is_that_of_run_and_control():
    runs = [replace(one, seconds=seconds) for one, seconds in zip(records([1, 1]), (2.0, 4.0))]
    controls = records([1, 1], "control")  # 2 s each
    elsewhere = records([1], experiment="other")
    assert seconds_per_seed([*runs, *controls, *elsewhere], ["some"]) == 3 + 2


SHIPPED = ROOT / "docs" / "reproduction.jsonl"


@pytest.fixture(scope="module")
def shipped():
    return read_records(SHIPPED)


@pytest.mark.skipif(not SHIPPED.exists(), reason="the deciding runs are not shipped yet")
class TestShippedRecords:
    """What stands in the repository follows from the code and the bands that stand there."""

    def test_every_experiment_ran_on_five_seeds_with_its_control(self, shipped):
        for name in workshop().experiments:
            for part in ("run", "control"):
                seeds = {one.seed for one in shipped.of(name, part)}
                assert len(seeds) >= 5, (name, part)

    def test_every_record_is_of_the_source_that_stands_here(self, shipped):
        stale = {r.experiment for r in shipped.records if r.source != source_hash(r.experiment)}
        assert not stale

    def test_bands_are_not_younger_than_their_runs(self, shipped):
        for one in shipped.records:
            for measure in workshop().measures_of(one.experiment):
                assert measure.fixed <= date.fromisoformat(one.day), (measure, one.day)
