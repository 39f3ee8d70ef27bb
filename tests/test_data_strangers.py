"""Files made to harm: sizes are checked before memory is taken, and nothing is unpickled."""

from __future__ import annotations

import io
import zipfile

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.formats.members import open_archive
from rlop.data.formats.own_arrays import open_hdf5, own_array
from rlop.data.formats.pickles import conversion
from rlop.types import InputError


def header(shape, dtype="<f4"):
    """The beginning of an array file that announces a shape."""
    text = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(text, about)
    return text.getvalue()


def archive(path, content, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x.npy", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((10**15,)), "takes 4,000,000,000,000,000 bytes, but the file has 0"),
        (header((-3,)), "takes -12 bytes"),
        (header((2,)) + bytes(12), "takes 8 bytes, but the file has 12"),
        (header((1,), "<U1") + bytes(4), "dtype <U1, expected numbers"),
        (header((1,), "|O") + bytes(8), "an object array"),
        (header(()) + bytes(4), "a single number"),
        (b"\x93NUMPY\x01\x00\x08\x00{[(((((", "not an array of numbers"),
        (b"\x93NUMPY\x09\x00", "not an array of numbers"),
        (b"", "not an array of numbers"),
    ],
)
def test_headers_that_do_not_fit(tmp_path, content, message):
    archive(tmp_path / "a.npz", content)
    with open_archive(tmp_path / "a.npz") as file, pytest.raises(InputError, match=message):
        file.read("x")


def test_arrays_that_unpack_beyond_all_measure(tmp_path, monkeypatch):
    monkeypatch.setattr("rlop.data.formats.members.FREE", 1000)
    content = header((40_000,)) + bytes(160_000)
    archive(tmp_path / "a.npz", content, zipfile.ZIP_DEFLATED)
    with (
        open_archive(tmp_path / "a.npz") as file,
        pytest.raises(InputError, match="over 100 times"),
    ):
        file.read("x")


def test_damage_inside_a_member(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000.0))
    content = bytearray(path.read_bytes())
    content[3000] ^= 255
    path.write_bytes(content)
    with open_archive(path) as file, pytest.raises(InputError, match="damaged or cut short"):
        file.read("x")
    path.write_bytes(content[:-40])
    with pytest.raises(InputError, match="not an archive"), open_archive(path):
        pass


def test_arrays_come_back_whole_in_either_order(tmp_path, monkeypatch):
    monkeypatch.setattr("rlop.data.formats.members.CHUNK", 64)
    grid = np.arange(60.0).reshape(20, 3)
    np.savez(
        tmp_path / "a.npz", c=grid, f=np.asfortranarray(grid), e=grid[:0], b=grid.astype(">i2")
    )
    with open_archive(tmp_path / "a.npz") as file:
        for key in "cfb":
            np.testing.assert_array_equal(file.read(key), grid)
        assert file.read("e").shape == (0, 3)
        with pytest.raises(InputError, match="no 'd'"):
            file.read("d")


def test_numbers_outside_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    np.arange(4.0).tofile(tmp_path / "other.bin")
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "b.h5"), "x", (4,))
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (4,), "f8", external=[(str(tmp_path / "other.bin"), 0, 32)])
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink("b.h5", "x")
        file.create_dataset("huge", (10**9, 10**3), "f4", chunks=True, compression="gzip")
        file["none"] = h5py.Empty("f4")

    with open_hdf5(path) as file:
        for key, message in (
            ("raw", "stored in another file"),
            ("virtual", "stored in another file"),
            ("link", "a link"),
            ("huge", "the file stores only 0 bytes"),
            ("none", "expected numbers"),
        ):
            with pytest.raises(InputError, match=f"{key}: .*{message}"):
                own_array(file, key, "")


def test_a_cut_file_is_one_line(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["observations_0"] = np.zeros((2000, 3))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="damaged or cut short") as error:
        load_dataset(f"d3rlpy:{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["replay.pkl", "replay.PICKLE"])
def test_pickles_are_refused_with_a_way_out(tmp_path, name):
    with pytest.raises(InputError, match="never read") as error:
        load_dataset(tmp_path / name, env_id="CartPole-v1")
    for line in conversion(tmp_path / name):
        assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [5, 11])
def test_the_way_out_works(tmp_path, steps):
    """Two environments in a ring of 8 rows, before and after it is full."""
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.common.save_util import save_to_pkl

    buffer = buffers.ReplayBuffer(16, Box(-1, 1, (1,)), Discrete(3), n_envs=2)
    for step in range(steps):
        obs = np.array([[step], [100 + step]], np.float32)
        done = np.array([step == 3, step == 4])
        infos = [{"TimeLimit.truncated": False}, {"TimeLimit.truncated": step == 4}]
        buffer.add(obs, obs + 1, np.array([[1], [2]]), obs[:, 0], done, infos)

    path = tmp_path / "b.pkl"
    save_to_pkl(path, buffer)
    exec("\n".join(conversion(path)), {})
    data = load_dataset(tmp_path / "b.npz")

    kept = range(max(0, steps - 8), steps)
    assert data.obs[:, 0].tolist() == [*kept, *(100 + step for step in kept)]
    np.testing.assert_array_equal(data.next_obs, data.obs + 1)
    assert data.obs[data.terminated, 0].tolist() == [3]
    assert data.obs[data.truncated, 0].tolist() == sorted({steps - 1, 104, 100 + steps - 1})
