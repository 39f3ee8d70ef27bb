"""Minari's data sets that are damaged, lead elsewhere, or have actions of a rarer kind."""

from __future__ import annotations

import io
import json
import sys

import gymnasium
import h5py
import numpy as np
import pytest
from helpers.minari import BOX, GOAL, STATES, UNIT, episode, put, put_one

from rlop.data import load_dataset
from rlop.data.adapter import Adapter
from rlop.data.formats import jpeg
from rlop.types import InputError

MAIN = "x-v0/data/main_data.hdf5"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def refused(match, name="x-v0", **options):
    with pytest.raises(InputError, match=match) as caught:
        load_dataset(f"minari:{name}", **options)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- actions


def test_joint_actions_are_numbered_row_major_and_played_as_they_were(root):
    space = gymnasium.spaces.MultiDiscrete([2, 3, 4], start=[0, 5, -1])
    space.seed(0)
    actions = np.array([space.sample() for _ in range(3)])
    about = {"type": "MultiDiscrete", "nvec": [2, 3, 4], "start": [0, 5, -1]}
    data = put_one(root, "x-v0", action=about, actions=actions)

    a, b, c = (actions - [0, 5, -1]).T
    assert data.action.tolist() == ((a * 3 + b) * 4 + c).tolist()
    assert (data.spec.n_actions, data.spec.action_counts) == (24, (2, 3, 4))
    box = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
    played = Adapter(data.spec, box, space, "x").action(data.action)
    assert played.tolist() == actions.tolist()


def test_discrete_actions_count_from_zero_whatever_bytes_they_are_stored_in(root):
    about = {"type": "Discrete", "start": 3, "n": 4}
    for dtype in (np.uint8, np.int64, np.float32):
        data = put_one(root, "x-v0", action=about, actions=np.array([3, 6, 4], dtype))
        assert data.action.tolist() == [0, 3, 1]
        assert (data.spec.n_actions, data.spec.action_start) == (4, 3)


def test_actions_of_several_axes_are_flattened_and_scaled(root):
    about = {**UNIT, "shape": [2, 2], "low": [[-2, 0], [0, 0]], "high": [[2, 1], [4, 1]]}
    actions = np.array([[[-2, 1], [4, 0]]] * 3, np.float32)
    data = put_one(root, "x-v0", action=about, actions=actions)
    assert data.action[0].tolist() == [-1, 1, 1, -1]
    assert data.spec.action_layout == (2, 2)
    assert data.spec.action_low == (-2, 0, 0, 0)
    assert data.spec.action_high == (2, 1, 4, 1)


def test_the_largest_float_is_no_bound(root):
    most = float(np.finfo(np.float32).max)
    about = {**UNIT, "low": [-most] * 2, "high": [most] * 2}
    data = put_one(root, "x-v0", action=about, actions=np.full((3, 2), 0.5, np.float32))
    assert data.action[0].tolist() == [0.5, 0.5]
    assert data.spec.action_low is None


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        ({**UNIT, "shape": [3]}, np.zeros((3, 2)), r"actions: rows \(2,\), expected \(3,\)"),
        ({**UNIT, "low": [0, 0, 0]}, np.zeros((3, 2)), "actions: low: expected a number, or 2 of"),
        ({**UNIT, "high": "x"}, np.zeros((3, 2)), "actions: high: expected a number, or 2 of"),
        ({**UNIT, "dtype": "int32"}, np.zeros((3, 2), int), "Box of int32, expected a Box of floa"),
        (
            {"type": "MultiDiscrete", "nvec": [20, 300]},
            np.zeros((3, 2), int),
            r"n_actions = \[20, 300\]: 6000 joint actions, expected 1 to 4096",
        ),
        (
            {"type": "MultiDiscrete", "nvec": [2, 3]},
            np.array([[0, 0], [1, 3], [0, 0]]),
            r"action: \[1, 3\] at row 1, expected parts below \[2, 3\]",
        ),
        (
            {"type": "MultiDiscrete", "nvec": [2]},
            np.zeros((3, 2)),
            r"shape \(3, 2\), expected \[N, 1\]",
        ),
        ({"type": "Discrete", "n": 2}, np.array([0, 0.5, 1]), "actions: 0.5, expected whole numbe"),
        ({"type": "Discrete", "n": 2}, np.zeros(3, "S2"), "actions: dtype .*, expected numbers"),
    ],
)
def test_actions_that_are_not_of_their_space_are_named(root, space, actions, message):
    put(root, "x-v0", [episode(3, actions=actions)], action=space)
    refused(message)


# ---- metadata


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("action_space", 5, "action_space = 5: expected a mapping in JSON"),
        ("action_space", "{", "action_space: Expecting property name"),
        ("action_space", "[" * 9999, "action_space: .*expected a mapping in JSON"),
        ("action_space", "{}", "action_space = {}: expected a mapping with the type"),
        ("action_space", '{"type": "Discrete", "n": "3"}', "n = '3': expected a whole number >= 1"),
        ("action_space", '{"type": "Discrete", "n": true}', "n = True: expected a whole number"),
        (
            "action_space",
            '{"type": "Discrete", "n": 3, "start": 0.5}',
            "start = 0.5: expected",
        ),
        ("action_space", '{"type": "MultiDiscrete", "nvec": 3}', "nvec = 3: expected a list"),
        ("action_space", '{"type": "MultiDiscrete", "nvec": [0]}', "nvec = 0: expected a whole"),
        ("action_space", '{"type": "Box", "shape": 3}', "shape = 3: expected a list of whole"),
        ("action_space", '{"type": "Box", "shape": [-1]}', "shape = -1: expected a whole number"),
        ("observation_space", '{"type": "Tuple", "subspaces": []}', "Tuple space, expected Box"),
        ("observation_space", '{"type": "Dict"}', "subspaces = None: expected a mapping"),
        ("observation_space", json.dumps(GOAL), "episode_0/observations: its space is not"),
        ("observation_space", '{"type": "Discrete", "n": 9999}', "Discrete of 9999 values, expec"),
        ("env_spec", '{"id": [1]}', r"env_spec: id = \[1\]: expected text"),
        ("env_spec", '{"id": "E-v0", "kwargs": 3}', "env_spec: kwargs = 3: expected a mapping"),
        (
            "env_spec",
            '{"id": "E-v0", "max_episode_steps": "x"}',
            "episode_steps = 'x': expected",
        ),
        ("total_episodes", 2, "1 episodes, but metadata.json says 2: parts are missing"),
        ("total_episodes", "x", "total_episodes = 'x': expected a whole number"),
    ],
)
def test_metadata_of_other_kinds_are_named(root, key, value, message):
    put(root, "x-v0", [episode(3)])
    path = root / "x-v0/data/metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    refused(message)


@pytest.mark.parametrize("text", ["[]", "3", "[" * 9999, '{"a": 1', "\udcff"])
def test_metadata_that_are_no_mapping_are_named(root, text):
    put(root, "x-v0", [episode(3)])
    path = root / "x-v0/data/metadata.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused(r"metadata\.json")


def test_spaces_nested_without_measure_are_named(root):
    space = BOX
    for _ in range(40):
        space = {"type": "Dict", "subspaces": {"a": space}}
    put(root, "x-v0", [episode(3)], obs=space)
    refused("nested more than 32 times")


# ---- observations and flags


@pytest.mark.parametrize(
    ("changes", "obs", "message"),
    [
        ({"observations": np.array([0, 1.5, 2, 0])}, STATES, "1.5, expected whole numbers"),
        ({"observations": np.array([0, np.nan, 2, 0])}, STATES, "nan, expected whole numbers"),
        ({"observations": np.zeros((4, 2))}, STATES, r"rows \(2,\), expected one value"),
        ({"truncations": np.array([0, 0, 7])}, BOX, "episode_0/truncations: 7 at row 2, expected"),
        (
            {"observations": np.zeros((4, 4))},
            None,
            r"episode_1: obs: rows \(3,\) .* as in episode_0",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(root, changes, obs, message):
    other = {"observations": np.zeros(4)} if obs is STATES else {}
    put(root, "x-v0", [episode(3, **changes), episode(3, **other)], obs=obs)
    refused(message)


def test_parts_of_another_kind_are_named(root):
    put(root, "x-v0", [episode(3)])
    refused(r"keys = \[\]: expected at least one name of a part", keys=[])
    put(root, "x-v0", [episode(3)], obs={"type": "Dict", "subspaces": {"a": BOX}})
    refused("episode_0/observations: its space is not described, expected one of")


def test_where_both_flags_are_set_the_episode_terminated(root):
    last = np.array([0, 0, 1])
    data = put_one(root, "x-v0", terminations=last, truncations=last)
    assert data.terminated.tolist() == [False, False, True]
    assert not data.truncated.any()


# ---- files


def test_links_out_of_the_folder_are_refused(root, tmp_path, monkeypatch):
    put(tmp_path / "elsewhere", "x-v0", [episode(3)])
    root.mkdir()
    (root / "x-v0").symlink_to(tmp_path / "elsewhere/x-v0")
    refused(r"x-v0: a link out of .*minari, which is never followed")

    for name in ("metadata.json", "main_data.hdf5"):
        put(root, "own-v0", [episode(3)])
        path = root / "own-v0/data" / name
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere/x-v0/data" / name)
        refused(rf"{name}: a link out of .*, which is never followed", "own-v0")
        path.unlink()

    # The folder of all data sets may be a link: the user chose it.
    (tmp_path / "short").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "short"))
    assert len(load_dataset("minari:x-v0")) == 3


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", "~/sets")
    put(tmp_path / "sets", "x-v0", [episode(3)])
    assert len(load_dataset("minari:x-v0")) == 3


@pytest.mark.parametrize("place", ["episode_1", "episode_0/rewards", "episode_0/observations/a"])
def test_what_is_stored_under_two_names_is_refused(root, place):
    put(root, "x-v0", [episode(3, observations=None, **{"observations/b": np.zeros((4, 1))})], None)
    with h5py.File(root / MAIN, "a") as file:
        twins = {"episode_1": "episode_0", "episode_0/rewards": "episode_0/actions"}
        file.pop(place, None)
        file[place] = file[twins.get(place, "episode_0/observations")]  # the last has no end
    refused(f"{place}: stored under another name too")


def test_shapes_of_text_that_the_file_does_not_hold_are_refused(root):
    put(root, "x-v0", [episode(3, observations=None)])
    with h5py.File(root / MAIN, "a") as file:
        text = h5py.string_dtype()
        file.create_dataset("episode_0/observations", (10**10,), text, chunks=(64,))
    refused("observations: shape .* but the file stores only 0 bytes")


# ---- images


def encoded(pixels):
    image = pytest.importorskip("PIL.Image")
    content = io.BytesIO()
    image.fromarray(pixels).save(content, "JPEG")
    return np.frombuffer(content.getvalue(), np.uint8)


@pytest.mark.parametrize("shape", [(32, 40), (32, 40, 3)])
def test_images_of_equally_many_bytes_stand_in_one_array(root, shape):
    pixels = np.full(shape, 90, np.uint8)
    rows = np.stack([encoded(pixels)] * 4)
    space = {"type": "Box", "dtype": "uint8", "shape": list(shape), "low": 0, "high": 255}
    data = put_one(root, "x-v0", space, observations=rows)
    assert data.obs.shape == (3, *shape)
    assert data.obs.dtype == np.uint8
    assert np.abs(data.obs.astype(int) - 90).max() <= 2


def test_an_image_that_its_file_cannot_hold_is_refused():
    content = bytearray(encoded(np.zeros((8, 8, 3), np.uint8)))
    frame = content.index(b"\xff\xc0")  # its header: marker, length, precision, height, width
    content[frame + 5 : frame + 9] = (4096).to_bytes(2, "big") * 2
    rows = np.empty(1, object)
    rows[0] = bytes(content)
    with pytest.raises(InputError, match=r"image 0 is \(4096, 4096\), but the file stores only"):
        jpeg.decode("observations", rows, (4096, 4096, 3))
    with pytest.raises(InputError, match=r"JPEG images of shape \(4, 4, 4\), expected"):
        jpeg.decode("observations", rows, (4, 4, 4))


def test_images_without_pillow_say_what_to_install(root, monkeypatch):
    rows = np.tile(np.frombuffer(b"\xff\xd8\xff\xe0", np.uint8), (4, 1))
    space = {"type": "Box", "dtype": "uint8", "shape": [32, 32, 3], "low": 0, "high": 255}
    put(root, "x-v0", [episode(3, observations=rows)], space)
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused("observations: JPEG images: pip install pillow")
