"""Minari's data sets in Arrow and Parquet, written by us, and against minari itself."""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
from helpers.data import same_columns
from helpers.minari import BOX, STATES, UNIT, episode, put

from rlop.collect.minari import write_minari
from rlop.data import Dataset, load_dataset
from rlop.data.formats import jpeg
from rlop.types import InputError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "minari"


# ---- Arrow and Parquet


def fixed(array):
    """A column of lists of fixed size."""
    pa = pytest.importorskip("pyarrow")
    flat = array.reshape(len(array), -1)
    return pa.FixedSizeListArray.from_arrays(flat.reshape(-1), flat.shape[1])


def padded(column):
    """A column with one more row, as all but the observations have."""
    return np.concatenate([column, column[:1]])


def arrow_table(columns):
    """An episode as minari stores it: nested observations are a struct."""
    pa = pytest.importorskip("pyarrow")
    obs = columns["observations"]
    parts = [fixed(obs), fixed(obs[:, :2]), pa.array(np.arange(len(obs)) % 3)]
    names = ["observation", "image", "gear"]
    return pa.table(
        {
            "observations": pa.StructArray.from_arrays(parts, names),
            "actions": fixed(padded(columns["actions"])),
            "rewards": padded(columns["rewards"]),
            "terminations": padded(columns["terminations"]),
            "truncations": padded(columns["truncations"]),
        }
    )


def put_arrow(root, name, kind, episodes):
    dataset = pytest.importorskip("pyarrow.dataset")
    data = root / name / "data"
    for i, columns in enumerate(episodes):
        folder = data / str(i)
        dataset.write_dataset(arrow_table(columns), folder, format=kind)
        (folder / "metadata.json").write_text("{}")

    parts = {"observation": BOX, "image": {**BOX, "shape": [2, 1]}, "gear": STATES}
    about = {
        "observation_space": json.dumps({"type": "Dict", "subspaces": parts}),
        "action_space": json.dumps(UNIT),
        "data_format": kind,
    }
    (data / "metadata.json").write_text(json.dumps(about))


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_arrow_and_parquet(root, kind):
    ends = ["truncations" if i % 2 else "terminations" for i in range(11)]
    put_arrow(root, "x-v0", kind, [episode(3, 100 * i, end) for i, end in enumerate(ends)])

    data = load_dataset("minari:x-v0")
    assert data.obs.shape == (33, 3 + 2 + 3)
    assert data.obs[data.end, :3].tolist() == [[0, 0, 1]] * 11  # in gear 2 of 0..2
    assert data.next_obs[data.end, 5].tolist() == [100 * i + 9 for i in range(11)]
    assert data.terminated[data.end].tolist() == [i % 2 == 0 for i in range(11)]
    assert data.action[:3].tolist() == episode(3)["actions"].tolist()
    assert load_dataset("minari:x-v0", keys=["image"]).obs.shape == (33, 2, 1)


def test_without_pyarrow(root, monkeypatch):
    put(root, "x-v0", [], data_format="arrow")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"data_format 'arrow': .*; pip install pyarrow$"):
        load_dataset("minari:x-v0")


# ---- writing


def same(a, b):
    same_columns(a, b)
    assert np.array_equal(a.truncated, b.truncated)


def test_round_trip(root, tiny):
    folder = write_minari(tiny.subset(np.arange(200) < 195), "rlop/tiny-v0")
    assert folder == root / "rlop" / "tiny-v0"
    # tiny's next_obs do not chain, so only those at the ends of episodes come back.
    again = load_dataset("minari:rlop/tiny-v0")
    assert np.array_equal(again.next_obs[again.end], tiny.next_obs[:195][again.end])

    data = load_dataset("gridworld?size=4&steps=300&max_episode_steps=15")
    write_minari(data, "minari:grid-v1")
    same(data, load_dataset("minari:grid-v1"))
    assert load_dataset("minari:grid-v1").spec == data.spec
    assert sorted(path.name for path in root.iterdir()) == ["grid-v1", "rlop"]


def test_round_trip_of_bytes_and_wide_actions(root):
    obs = np.random.default_rng(0).integers(0, 255, (7, 40, 40)).astype(np.uint8)
    end = np.arange(6) == 5
    action = np.arange(12, dtype=np.float32).reshape(6, 2)
    data = Dataset.from_arrays(obs[:-1], action, np.ones(6), end, np.zeros(6), obs[1:])

    write_minari(data, "bytes-v0")
    same(data, load_dataset("minari:bytes-v0"))
    with h5py.File(root / "bytes-v0" / "data" / "main_data.hdf5") as file:
        assert len(file["episode_0/observations"]) == 7
        assert file["episode_0"].attrs["total_steps"] == 6


def test_writing_refuses(root, tiny, monkeypatch):
    write_minari(tiny, "x-v0")
    for name, data, message in (
        ("x-v0", tiny, "exists already"),
        ("x", tiny, r"'x': expected \[namespace/\]name-vN"),
        ("../x-v0", tiny, "expected"),
        ("y-v0", tiny.n_step(3, 0.9), "rows span several steps"),
    ):
        with pytest.raises(InputError, match=message):
            write_minari(data, name)

    monkeypatch.setattr("rlop.collect.minari._about", lambda data: {"bad": object()})
    with pytest.raises(TypeError):
        write_minari(tiny, "z-v0")
    assert [path.name for path in root.iterdir()] == ["x-v0"]


@pytest.fixture
def original():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("minari", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")
def test_the_original_reads_what_is_written(original, root, shared_data):
    hopper = load_dataset(shared_data / "d4rl_like" / "hopper_medium-like.hdf5")
    grid = load_dataset("gridworld?size=4&steps=300")
    for name, data in (("hopper-v0", hopper), ("grid-v0", grid)):
        write_minari(data, name)
        episodes = list(original.load_dataset(name).iterate_episodes())
        assert [len(e.rewards) for e in episodes] == data.episode_lengths().tolist()

        columns = [
            (data.obs, [e.observations[:-1] for e in episodes]),
            (data.next_obs, [e.observations[1:] for e in episodes]),
            (data.action, [e.actions for e in episodes]),
            (data.reward, [e.rewards for e in episodes]),
            (data.terminated, [e.terminations for e in episodes]),
            (data.truncated, [e.truncations for e in episodes]),
        ]
        for column, parts in columns:
            assert np.array_equal(np.concatenate(parts), column)
    assert original.load_dataset("grid-v0").recover_environment().spec.id == "rlop/GridWorld-v0"


def buffer_of(sample, action, obs_space):
    """An episode for minari; it terminates."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    end = np.arange(len(action)) == len(action) - 1
    return EpisodeBuffer(
        observations={key: np.array([obs[key] for obs in sample]) for key in obs_space},
        actions=action,
        rewards=action.sum(1),
        terminations=end,
        truncations=np.zeros(len(action), bool),
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["hdf5", "arrow", "parquet"])
def test_what_the_original_writes_is_read(original, root, kind):
    if kind != "hdf5":
        pytest.importorskip("pyarrow")
    spaces = gymnasium.spaces
    obs_space = spaces.Dict(
        {
            "observation": spaces.Box(-9, 9, (3,), np.float64),
            "achieved_goal": spaces.Box(-9, 9, (2,), np.float64),
            "b": spaces.Discrete(3),
        }
    )
    action_space = spaces.Box(-2, 2, (2,), np.float32)
    obs_space.seed(0)
    action_space.seed(0)

    buffers, flat, actions = [], [], []
    for steps in (3, 1, 4):
        sample = [obs_space.sample() for _ in range(steps + 1)]
        action = np.array([action_space.sample() for _ in range(steps)])
        buffers.append(buffer_of(sample, action, obs_space))
        flat.append(np.array([spaces.flatten(obs_space, obs) for obs in sample], np.float32))
        actions.append(action)
    original.create_dataset_from_buffers(
        "goal-v0",
        buffers,
        env="CartPole-v1",
        data_format=kind,
        observation_space=obs_space,
        action_space=action_space,
    )

    data = load_dataset("minari:goal-v0")
    assert np.array_equal(data.obs, np.concatenate([rows[:-1] for rows in flat]))
    assert np.array_equal(data.next_obs, np.concatenate([rows[1:] for rows in flat]))
    np.testing.assert_allclose(data.action, np.concatenate(actions) / 2, atol=1e-7)
    assert data.episode_lengths().tolist() == [3, 1, 4]
    assert data.spec.env_id == "CartPole-v1"


def test_jpeg_images_are_decoded_by_their_own_sizes():
    image = pytest.importorskip("PIL.Image")
    shape = (8, 16, 3)
    made = np.zeros((3, *shape), np.uint8)
    made[:, :, 8:] = [200, 100, 50]
    rows = np.empty(3, object)
    for row, pixels in enumerate(made):
        content = io.BytesIO()
        image.fromarray(pixels).save(content, "JPEG", quality=100, subsampling=0)
        rows[row] = np.frombuffer(content.getvalue(), np.uint8)

    assert jpeg.is_encoded(rows)
    decoded = jpeg.decode("observations", rows, shape)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - made).max() <= 4  # JPEG is lossy

    with pytest.raises(InputError, match=r"observations: image 0 is \(8, 16\), expected \(9, 16\)"):
        jpeg.decode("observations", rows, (9, 16, 3))
    rows[1] = rows[1][:40]
    with pytest.raises(InputError, match="observations: image 1: no JPEG image"):
        jpeg.decode("observations", rows, shape)
    assert not jpeg.is_encoded(np.zeros(3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["hdf5", "arrow", "parquet"])
def test_images_and_joint_actions_of_the_original(original, root, kind):
    if kind != "hdf5":
        pytest.importorskip("pyarrow")
    pytest.importorskip("PIL")
    from minari.data_collector.episode_buffer import EpisodeBuffer

    spaces = gymnasium.spaces
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 3, (5, 2))
    flags = np.arange(5) == 4
    buffer = EpisodeBuffer(
        # Black images are equally many bytes, and minari stores those in another way.
        observations=np.zeros((6, 32, 48, 3), np.uint8),
        actions=actions,
        rewards=np.ones(5),
        terminations=flags,
        truncations=~flags & False,
    )
    colors = rng.integers(0, 255, (6, 32, 48, 3), np.uint8)
    noise = replace(buffer, observations=colors, actions=actions[::-1])
    original.create_dataset_from_buffers(
        "image-v0",
        [buffer, noise],
        env="CartPole-v1",
        data_format=kind,
        observation_space=spaces.Box(0, 255, (32, 48, 3), np.uint8),
        action_space=spaces.MultiDiscrete([3, 4]),
    )

    data = load_dataset("minari:image-v0")
    episodes = list(original.load_dataset("image-v0").iterate_episodes())
    assert np.array_equal(data.obs, np.concatenate([e.observations[:-1] for e in episodes]))
    assert np.array_equal(data.next_obs, np.concatenate([e.observations[1:] for e in episodes]))
    stored = np.concatenate([e.actions for e in episodes])
    assert data.action.tolist() == (stored[:, 0] * 4 + stored[:, 1]).tolist()


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_damaged_tables_are_named(root, kind, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    dataset = pytest.importorskip("pyarrow.dataset")
    put_arrow(root, "x-v0", kind, [episode(3)])
    folder = root / "x-v0/data/0"
    table = arrow_table(episode(3))

    def refused(match):
        with pytest.raises(InputError, match=match) as caught:
            load_dataset("minari:x-v0", keys=["observation"])
        assert "\n" not in str(caught.value)

    def write(changed):
        dataset.write_dataset(
            changed, folder, format=kind, existing_data_behavior="overwrite_or_ignore"
        )

    gaps = pa.array([[0.0, 0.0], None, [0.0, 0.0], [0.0, 0.0]], pa.list_(pa.float32(), 2))
    write(table.set_column(1, "actions", gaps))
    refused("0/actions: 1 rows without a value")
    write(table.drop_columns(["rewards"]))
    refused("0: no 'rewards'")

    write(table)
    monkeypatch.setattr("rlop.data.formats.arrow.SMALL", 10)
    monkeypatch.setattr("rlop.data.formats.arrow.LARGEST_RATIO", 0)
    refused("0: unpacks to more than 0 times its size")
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))

    (file,) = folder.glob(f"*.{kind}")
    file.rename(root / "elsewhere")
    refused(rf"0: no file \*\.{kind}")
    file.symlink_to(root / "elsewhere")
    refused("a link out of .*, which is never followed")
    file.unlink()
    file.write_bytes((root / "elsewhere").read_bytes()[:200])
    refused("x-v0/data: damaged, or not as minari writes it")
