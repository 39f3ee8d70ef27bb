"""imitation's trajectories: archives of T + 1 observations, and folders of Arrow files."""

from __future__ import annotations

import json
import logging
import pickle

import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.formats.imitation import is_imitation
from rlop.types import InputError

LENGTHS = (3, 1, 2)
TERMINAL = (True, False, True)


class Trap:
    """Must never be unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def trajectories():
    """Observations, actions and rewards of each trajectory."""
    parts = []
    for number, steps in enumerate(LENGTHS):
        rows = np.arange(steps + 1, dtype=np.float32) + 10 * number
        obs = np.stack([rows, -rows], 1)
        parts.append((obs, np.arange(steps) % 2, rows[:-1].astype(np.float64) / 4))
    return parts


def save(path, **changes):
    obs, acts, rews = zip(*trajectories())
    arrays = {
        "obs": np.concatenate(obs),
        "acts": np.concatenate(acts),
        "rews": np.concatenate(rews),
        "infos": np.array([Trap()] * sum(LENGTHS), object),
        "terminal": np.array(TERMINAL),
        "indices": np.cumsum(LENGTHS)[:-1],
    }
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    np.savez_compressed(path, **arrays)


def check(data):
    """Compare with the trajectories, one by one."""
    row = 0
    for (obs, acts, rews), terminal in zip(trajectories(), TERMINAL):
        rows = slice(row, row + len(acts))
        np.testing.assert_array_equal(data.obs[rows], obs[:-1])
        np.testing.assert_array_equal(data.next_obs[rows], obs[1:])
        np.testing.assert_array_equal(data.action[rows], acts)
        np.testing.assert_array_equal(data.reward[rows], rews)
        row = rows.stop
        assert data.end[rows].tolist() == [False] * (len(acts) - 1) + [True]
        assert (data.terminated[row - 1], data.truncated[row - 1]) == (terminal, not terminal)
    assert row == len(data)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "final.npz"


def test_an_archive_and_its_pickled_infos(path, caplog):
    save(path)
    with caplog.at_level(logging.WARNING, logger="rlop"):
        check(load_dataset(f"imitation:{path}"))
    assert "2 trajectories count as terminated" in caplog.text


def test_trajectories_as_long_as_the_limit_are_truncated(path):
    save(path)
    data = load_dataset(f"imitation:{path}", time_limit=3)
    assert data.terminated.nonzero()[0].tolist() == [5]
    assert data.truncated.nonzero()[0].tolist() == [2, 3]
    assert load_dataset(f"imitation:{path}", env_id="CartPole-v1").spec.env_id == "CartPole-v1"


def test_one_trajectory_without_rewards(path, caplog):
    obs, acts, _ = trajectories()[0]
    save(path, obs=obs, acts=acts, rews=None, terminal=[True], indices=np.zeros(0, int))
    with caplog.at_level(logging.WARNING, logger="rlop"):
        data = load_dataset(f"imitation:{path}")
    assert (len(data), data.n_episodes, data.reward.any()) == (3, 1, False)
    assert "no rewards" in caplog.text


def test_an_archive_is_recognized_by_its_names():
    assert is_imitation({"obs", "acts", "terminal", "indices", "infos"})
    assert not is_imitation({"obs", "actions", "rewards", "episode_starts"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": None}, "not imitation's: expected acts, indices, obs, terminal"),
        ({"indices": [3, 3]}, "indices: expected increasing rows between 1 and 5"),
        ({"indices": [3, 6]}, "indices: expected increasing rows"),
        ({"indices": [3.0, 4.0]}, "indices: float64"),
        ({"terminal": [True]}, "terminal: 1 rows, expected 3"),
        ({"obs": np.zeros((8, 2))}, r"obs: shape \(8, 2\), expected 9 rows"),
        ({"obs": np.full((9, 2), np.nan)}, "obs: 6 of 6 rows hold NaN"),
        ({"rews": np.zeros(5)}, "rews: 5 rows, expected 6"),
        ({"acts": np.array([Trap()] * 6)}, "acts: an object array"),
        ({"acts": np.array(["a"] * 6)}, "acts: dtype <U1, expected numbers"),
    ],
)
def test_archives_that_are_refused(path, changes, message):
    save(path, **changes)
    with pytest.raises(InputError, match=message) as error:
        load_dataset(f"imitation:{path}")
    assert str(error.value).count(str(path)) == 1


def save_folder(folder, **changes):
    """Write what Dataset.save_to_disk writes, two files."""
    pa = pytest.importorskip("pyarrow")
    folder.mkdir()
    rows = []
    for (obs, acts, rews), terminal in zip(trajectories(), TERMINAL):
        row = {"obs": obs.tolist(), "acts": acts.tolist(), "rews": rews.tolist()}
        row |= {"terminal": terminal, "infos": ["{}"] * len(acts)}
        rows.append(row | changes)

    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (rows[:2], rows[2:])):
        table = pa.Table.from_pylist(part)
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))


def test_a_folder_of_arrow_files(tmp_path):
    save_folder(tmp_path / "x")
    check(load_dataset(f"imitation:{tmp_path / 'x'}"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acts": [0]}, "trajectory 0: obs: 4 rows, expected 2"),
        ({"acts": [None, 1, 1]}, "trajectory 0: acts: expected a list of numbers without gaps"),
        ({"acts": ["a", "b", "c"]}, "trajectory 0: acts: string, expected numbers"),
        ({"acts": 3}, "acts: int64, expected a list"),
        ({"obs": [[1.0], [1.0, 2.0]]}, "trajectory 0: obs: rows of 1 to 2"),
        ({"obs": [[], [], [], []]}, "obs"),
        ({"rews": [1.0]}, "trajectory 0"),
        ({"terminal": None}, "trajectory 0: terminal: None"),
    ],
)
def test_folders_that_are_refused(tmp_path, changes, message):
    save_folder(tmp_path / "x", **changes)
    with pytest.raises(InputError, match=message):
        load_dataset(f"imitation:{tmp_path / 'x'}")


@pytest.mark.parametrize("name", ["../y.arrow", "/etc/passwd", 7, "", "absent.arrow"])
def test_no_file_outside_the_folder_is_read(tmp_path, name):
    save_folder(tmp_path / "x")
    state = {"_data_files": [{"filename": name}]}
    (tmp_path / "x" / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"state\.json"):
        load_dataset(f"imitation:{tmp_path / 'x'}")


def test_damaged_folders(tmp_path):
    save_folder(tmp_path / "x")
    first = tmp_path / "x" / "data-00000-of-00002.arrow"
    first.write_bytes(first.read_bytes()[:-200])
    with pytest.raises(InputError, match="damaged or not an Arrow stream"):
        load_dataset(f"imitation:{tmp_path / 'x'}")
    for text in ("[]", "{", '{"_data_files": []}', '{"_data_files": 3}'):
        (tmp_path / "x" / "state.json").write_text(text)
        with pytest.raises(InputError, match=r"state\.json: "):
            load_dataset(f"imitation:{tmp_path / 'x'}")
    with pytest.raises(InputError, match=r"no state\.json"):
        load_dataset(f"imitation:{tmp_path}")


def test_pickles_are_not_archives(path):
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(InputError, match="not an archive"):
        load_dataset(f"imitation:{path}")
