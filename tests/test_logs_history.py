"""Reading records: cut short, damaged, absent."""

import pytest
from helpers.logs import logger

from rlop.logs.history import read_metrics
from rlop.logs.logger import Mark
from rlop.types import InputError

# A configuration whose mappings are nested 100 times.
DEEP = '{"labels": [], "hparams": [], "config": ' + '{"a": ' * 100 + "1" + "}" * 101


@pytest.fixture
def record(tmp_path):
    """The record of two steps."""
    with logger(tmp_path) as log:
        log.log(0, {"a": [1, 2]})
        log.log(10, {"a": [3, 4]})
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize("tail", [b'{"step": 20, "metr', b"\0\0\0", b""])
def test_a_line_cut_short_by_a_crash_is_left_out(record, tail):
    mark = Mark(record.stat().st_size, {})
    record.write_bytes(record.read_bytes() + tail)
    assert read_metrics(record.parent).steps.tolist() == [0, 10]

    with logger(record.parent, resume=mark) as log:
        log.log(20, {"a": [5, 6]})
    assert read_metrics(record.parent).get("a")[1].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len(record.read_bytes().splitlines()) == 3


def test_a_line_that_lost_only_its_end_is_kept(record):
    record.write_bytes(record.read_bytes()[:-1])
    assert read_metrics(record.parent).steps.tolist() == [0, 10]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"x",
        b'{"step": 1, "metrics": {"a": [1]}}',
        b'{"step": "1", "metrics": {}}',
        b'{"step": -1, "metrics": {}}',
        b'{"step": 1%s, "metrics": {}}' % (b"0" * 40),
        b'{"step": 1, "time": "x", "metrics": {}}',
        b'{"step": 1, "metrics": {"a": [1%s]}}' % (b"0" * 400),
        b"[" * 20_000,
        b"\xff",
    ],
)
def test_a_damaged_line_is_named(record, line):
    record.write_bytes(record.read_bytes() + line + b"\n")
    expected = r"metrics.jsonl: line 3 is damaged, expected a step and its metrics"
    with pytest.raises(InputError, match=expected):
        read_metrics(record.parent)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"labels": ["a"], "hparams": []}', "[" * 20_000, DEEP]
)
def test_a_damaged_description_of_the_runs_is_named(record, content):
    (record.parent / "runs.json").write_text(content)
    with pytest.raises(InputError, match=r"found no readable runs.json beside metrics.jsonl"):
        read_metrics(record.parent)


def test_a_folder_without_a_record_is_named(tmp_path):
    expected = r"found no metrics.jsonl, expected the logdir of a training run"
    with pytest.raises(InputError, match=expected):
        read_metrics(tmp_path / "none")
