"""Arrays in files: where they are made, and files that are larger than the memory."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import torch

from rlop.data import mapped
from rlop.data.joined import Joined
from rlop.data.moments import moments


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A hundred rows in a file, of which a few are a piece."""
    monkeypatch.setattr(mapped, "SMALL", 1)
    monkeypatch.setattr(mapped, "PIECE", 64)
    np.arange(300.0, dtype=np.float32).tofile(tmp_path / "x.bin")
    return mapped.open_mapped(tmp_path / "x.bin").view(np.float32).reshape(100, 3)


def test_what_is_made_of_rows_in_a_file_is_in_a_file_without_a_name(rows, tmp_path):
    plain = np.array(rows)
    index = np.array([7, 3, 99, 3])
    made = {
        "take": (mapped.take(rows, index), plain[index]),
        "converted": (mapped.converted(rows, np.int64), plain.astype(np.int64)),
        "by_pieces": (mapped.by_pieces(np.sqrt, rows, np.float32), np.sqrt(plain)),
        "concatenate": (mapped.concatenate([rows, plain]), np.concatenate([plain, plain])),
    }
    for name, (array, expected) in made.items():
        assert np.array_equal(array, expected), name
        assert mapped.file_of(array).parent.parent == tmp_path, name
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_what_is_made_of_memory_stays_in_memory(monkeypatch):
    monkeypatch.setattr(mapped, "SMALL", 1)
    array = np.arange(6.0)
    assert mapped.file_of(mapped.take(array, np.array([1, 2]))) is None
    assert mapped.file_of(mapped.converted(array, np.float32)) is None
    assert mapped.converted(array, np.float64) is array


def test_a_view_knows_its_file_and_a_joined_array_its_first(rows, tmp_path):
    assert mapped.file_of(np.asarray(rows[3:9])) == tmp_path / "x.bin"
    assert mapped.file_of(Joined((np.zeros((2, 3)), rows))) == tmp_path / "x.bin"


def test_what_is_written_to_mapped_rows_never_reaches_the_file(rows, tmp_path):
    rows[:] = -1
    assert np.fromfile(tmp_path / "x.bin", np.float32).max() == 299


def test_ones_of_mapped_rows_take_the_room_of_one(rows):
    shared = mapped.ones(rows)
    assert shared.shape == (100,)
    assert shared.strides == (0,)
    assert torch.from_numpy(shared)[torch.tensor([0, 99])].tolist() == [1, 1]


def test_moments_are_those_of_the_whole_array(rows):
    mean, deviation = moments(rows)
    np.testing.assert_allclose(mean, np.array(rows).mean(0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(deviation, np.array(rows).std(0, dtype=np.float64), rtol=1e-14)
    assert np.array_equal(mean, moments(np.array(rows))[0])
    assert np.array_equal(mean, moments(Joined((rows[:33], np.array(rows[33:]))))[0])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the size of the memory")
def test_a_file_larger_than_the_memory_is_mapped(tmp_path):
    size = 3 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    path = tmp_path / "sparse.bin"
    with open(path, "wb") as file:
        file.truncate(size)  # without content, it takes no room on the disk
    array = mapped.open_mapped(path)
    assert array.shape == (size,)
    assert torch.from_numpy(array)[-1] == 0
