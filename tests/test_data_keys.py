"""Names of arrays in files: one table for HDF5 and npz; ends of episodes found, or asked about."""

import h5py
import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.data.formats.keys import NAMES
from rlop.types import InputError

ROWS = 24
LAST = np.arange(ROWS) % 6 == 5  # of four episodes
FIRST = np.arange(ROWS) % 6 == 0


def columns(**changes):
    """Four episodes of six rows, without a flag."""
    rng = np.random.default_rng(3)
    made = {
        "observations": rng.standard_normal((ROWS, 2)).astype(np.float32),
        "actions": np.arange(ROWS) % 3,
        "rewards": np.arange(ROWS, dtype=np.float32),
        **changes,
    }
    return {name: array for name, array in made.items() if array is not None}


@pytest.fixture(params=["hdf5", "npz"])
def write(request, tmp_path):
    """Write arrays as a file of one container, and return its path."""

    def written(arrays):
        path = tmp_path / f"own.{request.param}"
        if request.param == "npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file[name] = array
        return path

    return written


def ends_of(data):
    return data.episode_lengths().tolist()


@pytest.mark.parametrize("name", [*NAMES["truncated"], *NAMES["end"], "dones", "done"])
def test_ends_are_found_beside_terminations_under_every_name(write, name):
    terminals = LAST & (np.arange(ROWS) > 12)  # the last two episodes terminate
    data = load_dataset(write(columns(terminals=terminals, **{name: LAST})))
    assert ends_of(data) == [5, 5, 6, 6]  # a cut row has no known successor
    assert data.terminated.sum() == 2
    assert name in data.keys.values()


def test_starts_mark_the_row_before_as_the_last(write):
    data = load_dataset(write(columns(terminals=np.zeros(ROWS), is_first=FIRST)))
    assert ends_of(data) == [5, 5, 5, 5]
    assert not data.terminated.any()


@pytest.mark.parametrize("name", NAMES["terminated"])
def test_terminations_are_found_under_every_name(write, name):
    data = load_dataset(write(columns(**{name: LAST})))
    assert ends_of(data) == [6, 6, 6, 6]
    assert data.terminated.sum() == 4
    assert data.reward.sum() == np.arange(ROWS).sum()  # the last row terminated, and stays


def test_a_row_with_both_flags_terminated(write):
    data = load_dataset(write(columns(terminals=LAST, timeouts=LAST)))
    assert data.terminated.tolist() == LAST.tolist()
    assert not data.truncated.any()


def test_names_of_columns_are_those_of_either_layout(write):
    made = columns(truncated=LAST)
    renamed = {"obs": made.pop("observations"), "action": made.pop("actions"), **made}
    data = load_dataset(write(renamed))
    expected = {"obs": "obs", "action": "action", "reward": "rewards", "truncated": "truncated"}
    assert data.keys == expected


def test_the_user_names_what_the_table_does_not_know(write):
    path = write(columns(terminals=np.zeros(ROWS), over=LAST, lucky=FIRST))
    with pytest.raises(InputError, match=r"'(over|lucky)' holds one flag per row.*keys: \{trunc"):
        load_dataset(path)
    data = load_dataset(path, keys={"end": "over", "ignore": "lucky"})
    assert ends_of(data) == [5, 5, 5, 5]
    assert ends_of(load_dataset(path, keys={"terminated": "over", "ignore": ["lucky"]})) == [6] * 4


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"dones": LAST}, {}, r"'dones': terminations only, or every end.*keys: \{end: dones\}"),
        ({}, {}, r"no row ends an episode; expected one of timeouts.*time_limit.*ends: none"),
        ({"terminals": np.zeros(ROWS)}, {}, "no row ends an episode"),
        ({"terminals": LAST, "terminated": LAST}, {}, "'terminals' and 'terminated' both mean"),
        ({"terminals": LAST}, {"keys": {"end": "x"}}, r"keys: end: no array 'x'"),
        ({"terminals": LAST}, {"keys": {"ignore": "x"}}, r"keys: ignore: no array 'x'"),
        ({"terminals": LAST}, {"keys": {"stop": "x"}}, r"keys: role 'stop': unknown"),
        ({"terminals": LAST}, {"ends": "some"}, r"ends: 'some': unknown"),
        ({"terminals": LAST[:9]}, {}, r"terminals: 9 rows, expected 24"),
        ({"is_last": np.full(ROWS, 2)}, {}, r"is_last: 2 at row 0, expected only 0 and 1"),
        ({"actions": None, "terminals": LAST}, {}, "no 'actions', for action"),
    ],
)
def test_what_is_not_understood_is_asked_about(write, changes, options, message):
    path = write(columns(**changes))
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(path, **options)
    assert str(path) in str(caught.value) or "ends" in options
    assert "\n" not in str(caught.value)


def test_a_file_without_ends_is_read_when_the_user_says_so(write):
    path = write(columns())
    assert ends_of(load_dataset(path, ends="none")) == [ROWS - 1]
    assert ends_of(load_dataset(path, time_limit=6)) == [5, 5, 5, 5]


def test_pickled_extras_of_an_archive_are_left_alone(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **columns(terminals=LAST), infos=np.array([{}] * ROWS, dtype=object))
    assert len(load_dataset(path)) == ROWS
