"""Fingerprints of columns: another value, dtype or shape shows; on disk, in rows spread over it."""

import numpy as np
import pytest

from rlop.data import fingerprint as module
from rlop.data.dqn_replay.stacks import Stacks
from rlop.data.fingerprint import fingerprint

ROWS = np.arange(5000, dtype=np.float32).reshape(-1, 2)


def of(column):
    return fingerprint({"x": column})["x"]


def test_equal_content_has_the_same_fingerprint_and_its_text_begins_with_the_kind():
    assert of(ROWS) == of(ROWS.copy()) == of(np.asfortranarray(ROWS))
    assert of(ROWS).startswith("float32 [2500, 2] ")


@pytest.mark.parametrize("row", [0, 1, 1234, 2499])
def test_another_value_in_any_row_shows(row):
    other = ROWS.copy()
    other[row, 1] += 1
    assert of(other) != of(ROWS)


def test_another_dtype_shape_or_order_shows():
    changed = [ROWS.astype(np.float64), ROWS.reshape(2, -1), ROWS[:-1], ROWS[::-1]]
    assert len({of(ROWS), *map(of, changed)}) == 5


def test_a_large_column_is_known_by_its_first_last_and_many_other_rows(monkeypatch):
    monkeypatch.setattr(module, "WHOLE", 0)
    shown = []
    for row in (0, 2499, *range(1, 100)):
        other = ROWS.copy()
        other[row] = -1
        shown.append(of(other) != of(ROWS))
    assert shown[:2] == [True, True]
    assert sum(shown) > 30


def test_files_and_stacked_frames_are_read_in_part(tmp_path):
    file = np.memmap(tmp_path / "x", np.float32, "w+", shape=ROWS.shape)
    file[:] = ROWS
    before = of(file)
    file[0] = -1
    assert of(file) != before

    frames = np.zeros((10, 2, 2), np.uint8)
    stacks = Stacks(frames, np.arange(3, 10))
    before = of(stacks)
    assert before.startswith("uint8 [7, 4, 2, 2] ")
    frames[5] = 1
    assert of(stacks) != before
