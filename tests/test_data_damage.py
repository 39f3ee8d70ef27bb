"""Files that are damaged, or that lead out of themselves: one line, and nothing allocated."""

import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.types import InputError

ROWS = 12


def columns():
    return {
        "observations": np.ones((ROWS, 2), np.float32),
        "actions": np.zeros(ROWS, int),
        "rewards": np.ones(ROWS, np.float32),
        "terminals": np.arange(ROWS) == ROWS - 1,
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "own.hdf5"
    with h5py.File(path, "w") as file:
        for name, array in columns().items():
            file[name] = array
    return path


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message


def replace_with(path, name, make):
    with h5py.File(path, "a") as file:
        del file[name]
        make(file)


def test_arrays_outside_the_file_are_refused(path, tmp_path):
    other = tmp_path / "secret.bin"
    other.write_bytes(np.ones((ROWS, 2), np.float32).tobytes())
    shape = (ROWS, 2)

    def external(file):
        storage = [(str(other), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("observations", shape, np.float32, external=storage)

    replace_with(path, "observations", external)
    refused(path, "observations: stored in another file")

    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = np.ones(shape, np.float32)

    def linked(file):
        file["observations"] = h5py.ExternalLink("other.hdf5", "x")

    replace_with(path, "observations", linked)
    refused(path, "observations: a link, which is never followed")

    def virtual(file):
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "x", shape)
        file.create_virtual_dataset("observations", layout)

    replace_with(path, "observations", virtual)
    refused(path, "observations: stored in another file")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_shape_that_the_file_does_not_hold_is_refused(path, compression):
    def absurd(file):
        file.create_dataset("rewards", (10**12,), np.float32, chunks=(64,), compression=compression)

    replace_with(path, "rewards", absurd)
    refused(path, r"rewards: shape \(1000000000000,\) of float32, but the file stores only 0 bytes")


def test_compressed_arrays_of_one_value_are_read(path):
    rows = 200_000
    with h5py.File(path, "w") as file:
        for name, array in columns().items():
            tall = np.zeros((rows, *array.shape[1:]), array.dtype)
            if name == "terminals":
                tall[-1] = True
            file.create_dataset(name, data=tall, compression="gzip", compression_opts=9)
    assert len(load_dataset(path)) == rows


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_actions", np.array([1, 2]), "attribute n_actions = .*expected one whole number"),
        ("n_actions", "many", "attribute n_actions"),
        ("n_actions", 2.5, "attribute n_actions"),
        ("env_id", np.array([1]), "attribute env_id = .*expected text"),
        ("env_kwargs", "{", "attribute env_kwargs: expected a mapping in JSON"),
        ("env_kwargs", "[1]", "attribute env_kwargs: expected a mapping in JSON"),
    ],
)
def test_malformed_attributes_are_named(path, name, value, message):
    with h5py.File(path, "a") as file:
        file.attrs[name] = value
    refused(path, message)


def test_attributes_of_bytes_and_arrays_of_one_are_read(path):
    with h5py.File(path, "a") as file:
        file.attrs["env_id"] = np.bytes_(b"CartPole-v1")
        file.attrs["n_actions"] = np.array([2])
    spec = load_dataset(path).spec
    assert (spec.env_id, spec.n_actions) == ("CartPole-v1", 2)


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_wrong_bytes_and_cuts_anywhere_are_refused_or_harmless(tmp_path, path, kind):
    if kind == "npz":
        path = tmp_path / "own.npz"
        np.savez_compressed(path, **columns())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(len(damaged), size=4):
            damaged[position] = rng.integers(256)
        if rng.random() < 0.3:
            damaged = damaged[: rng.integers(len(damaged))]
        path.write_bytes(damaged)
        with suppress(InputError):  # or none: the damage may lie where it does no harm
            load_dataset(path)


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **columns())
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000,), }"
    text += b" " * (-(len(header) + 2 + len(text) + 1) % 64) + b"\n"
    members["rewards.npy"] = header + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    refused(path, r"rewards: shape \(9000000000000,\) of float32 takes 36,000,000,000,000 bytes")


def test_the_home_folder_is_expanded(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(load_dataset("~/own.hdf5")) == ROWS
