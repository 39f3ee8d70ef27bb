"""RL Unplugged's Atari episodes, read without TensorFlow, against a plain decoding."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import rlu
from rlop.agents import DQN

import rlop
from rlop.cli import main
from rlop.data.atari_scores import minimal_actions
from rlop.data.dqn_replay.window import RollingWindow
from rlop.data.formats.rlu import read_rlu
from rlop.data.formats.tf_example import WireError, read_example
from rlop.data.formats.tfrecord import crc32c, read_records
from rlop.types import InputError

pytest.importorskip("PIL")

NAME = "rlu:atari/Pong/1"


@pytest.fixture
def root(tmp_path):
    """Three checkpoints of two episodes; the second of each is cut."""
    for number in range(3):
        gray = 60 * number
        rlu.shard(
            tmp_path,
            number,
            [
                rlu.episode(gray + np.arange(1, 13), number, 0),
                rlu.episode(gray + np.arange(20, 29), number, 1, terminated=False),
            ],
        )
    return tmp_path


def grays(data):
    """The gray of each frame of each stack, `[N, 4]`."""
    return np.asarray(data.obs)[:, :, 0, 0]


def same(data, rows):
    """Assert that a data set has these obs, action, reward, next_obs, terminated."""
    obs, action, reward, next_obs, terminated = rows
    assert np.array_equal(np.asarray(data.obs), obs)
    assert np.array_equal(np.asarray(data.next_obs), next_obs)
    assert np.array_equal(data.action, action)
    assert np.array_equal(data.reward, reward)
    assert np.array_equal(data.terminated, terminated)


# ---- what is read


@pytest.mark.parametrize("reward", ["clipped", "unclipped"])
def test_real_episodes_equal_a_plain_decoding(shared_data, reward):
    folder = shared_data / "rlu"
    (path,) = folder.iterdir()
    data = rlop.load_dataset(f"rlu:atari/Asterix/1?reward={reward}", root=folder)

    assert data.episode_lengths().tolist() == [309, 243]
    assert data.spec.n_actions == 9
    assert data.spec.env_id == "ALE/Asterix-v5"
    assert data.episode_returns().tolist() == [17, 4]
    same(data, rlu.plain_rows(rlu.plain_episodes(path), f"{reward}_rewards"))


@pytest.mark.parametrize("reward", ["clipped", "unclipped"])
def test_episodes_of_our_own_equal_a_plain_decoding(root, reward):
    paths = sorted((root / "Pong").iterdir())
    episodes = [features for path in paths for features in rlu.plain_episodes(path)]
    data = read_rlu(NAME, root=root, reward=reward)
    same(data, rlu.plain_rows(episodes, f"{reward}_rewards"))

    assert data.episode_lengths().tolist() == [11, 8] * 3
    assert data.terminated[data.end].tolist() == [True, False] * 3
    assert data.truncated[data.end].tolist() == [False, True] * 3
    assert data.spec.n_actions == 6
    assert data.infos["file"].tolist() == np.repeat([0, 1, 2], 19).tolist()
    assert data.infos["first"].sum() == 6


def test_numbers_may_be_stored_one_by_one(tmp_path):
    features = rlu.episode(np.arange(1, 9))
    rlu.shard(tmp_path, 0, [rlu.example(features, packed=False)])
    data = read_rlu(NAME, root=tmp_path)
    assert np.array_equal(data.action, features["actions"][:-1])
    assert np.array_equal(data.reward, features["clipped_rewards"][:-1])


def test_frames_may_stand_in_a_file(root, tmp_path):
    cache = tmp_path / "cache"
    mapped = read_rlu(NAME, root=root, memory_gb=1e-4, cache=cache)
    assert isinstance(mapped.obs.frames, np.memmap)
    assert np.array_equal(grays(mapped), grays(read_rlu(NAME, root=root)))
    (file,) = cache.iterdir()
    assert file.name.startswith("Pong-1-")


@pytest.mark.parametrize("name", ["Pong/run_2-00007-of-00050", "Pong_ordered_run_2-00007-of-00050"])
def test_files_are_found_under_the_names_in_use(tmp_path, name):
    rlu.write(tmp_path / name, [rlu.episode(np.arange(5))])
    rlu.write(tmp_path / name.replace("run_2", "run_22"), [rlu.episode(np.arange(9))])
    assert len(read_rlu("rlu:atari/Pong/2", root=tmp_path)) == 4


def test_the_environment_variable_names_the_folder(root, monkeypatch):
    monkeypatch.setenv("RLU_DIR", str(root))
    assert len(rlop.load_dataset("rlu:atari/Pong?files=2,0&subset=50%")) == 20


def test_the_actions_are_those_that_the_game_uses():
    assert [minimal_actions(game) for game in ("Asterix", "Freeway", "Alien")] == [9, 3, 18]
    assert minimal_actions("Solaris") is None

    ale = pytest.importorskip("ale_py")
    rom = ale.roms.get_rom_path("kung_fu_master")
    ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)
    emulator = ale.ALEInterface()
    emulator.loadROM(rom)
    assert minimal_actions("KungFuMaster") == len(emulator.getMinimalActionSet())


# ---- subsets and windows


def test_a_share_of_each_checkpoint(root):
    data = read_rlu(f"{NAME}?subset=50%", root=root)
    assert data.infos["file"].tolist() == np.repeat([0, 1, 2], 10).tolist()
    assert data.infos["row"].tolist() == [*range(10)] * 3
    assert data.truncated.sum() == 3
    assert not data.terminated.any()


def test_the_first_share_is_that_of_the_checkpoints_in_order(tmp_path):
    """However the records stand in the files."""
    late = rlu.episode(np.arange(100, 111), checkpoint=1)
    early = [rlu.episode(np.arange(30 * i + 1, 30 * i + 12), 0, i) for i in range(2)]
    rlu.shard(tmp_path, 0, [late, early[1]])
    rlu.shard(tmp_path, 1, [early[0]])

    data = read_rlu(f"{NAME}?subset=first-50%", root=tmp_path)
    assert grays(data)[:, 3].tolist() == [*range(31, 36), *range(1, 11)]
    assert data.infos["episode"].tolist() == [1] * 5 + [0] * 10


def test_drawn_transitions_have_their_own_frames(root):
    whole = read_rlu(NAME, root=root)
    drawn = read_rlu(f"{NAME}?subset=iid-40%", root=root, seed=3)
    assert np.bincount(drawn.infos["file"]).tolist() == [8, 8, 8]

    def key(data):
        return [*zip(data.infos["file"], data.infos["episode"], data.infos["row"])]

    rows = [key(whole).index(item) for item in key(drawn)]
    assert np.array_equal(grays(drawn), grays(whole)[rows])
    assert np.array_equal(np.asarray(drawn.next_obs), np.asarray(whole.next_obs)[rows])
    assert np.array_equal(drawn.terminated, whole.terminated[rows])

    again = read_rlu(f"{NAME}?subset=iid-40%&seed=3", root=root)
    other = read_rlu(f"{NAME}?subset=iid-40%", root=root, seed=4)
    assert key(drawn) == key(again) != key(other)


def test_a_window_draws_some_files_at_a_time(root):
    window = RollingWindow(NAME, 2, root=root)
    draws = [tuple(np.unique(window.draw(number).infos["file"])) for number in range(12)]
    assert set(draws) == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(InputError, match="n_files = 4: expected 1 to 3"):
        RollingWindow(NAME, 4, root=root)
    with pytest.raises(InputError, match=r"window: of gridworld: expected .* dqn-replay:"):
        RollingWindow("gridworld", 1)


def test_agents_train_on_them(root):
    data = read_rlu(NAME, root=root)
    agent = DQN(data.spec, hidden=(4,), network="mlp", batch_size=4, seeds=2)
    history = rlop.train(agent, data, 3, progress=False, log_every=1)
    assert np.isfinite(history.get("loss/td")[1]).all()


# ---- what is refused


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("rlu:Pong/1", {}, r"expected rlu:atari/GAME/RUN, e\.g\. rlu:atari/Pong/1"),
        ("rlu:atari/../Pong", {}, "expected rlu:atari/GAME/RUN"),
        ("rlu:atari/Pnog/1", {}, r"no file .*Pnog/run_1-00000-of-00050 .* did you mean 'Pong'"),
        ("rlu:atari/Pong/5", {}, "no file .*run_5-00000"),
        (NAME, {"files": [0, 4]}, "files: no file 4; there are 0, 1, 2"),
        (NAME, {"reward": "raw"}, "reward 'raw': unknown; one of clipped, unclipped"),
        (NAME, {"subset": "few"}, "subset = 'few': expected all"),
        (NAME, {"subset": "0.1%"}, r"no transition in 3 files"),
        (NAME, {"n_actions": 3}, r"action: \d at row \d+, expected 0 <= action < 3"),
        (f"{NAME}?sede=1", {}, "no option 'sede' in a query, did you mean 'seed'"),
    ],
)
def test_names_and_options_are_checked(root, source, options, message):
    with pytest.raises(InputError, match=message):
        read_rlu(source, root=root, **options)


def test_without_a_folder_it_says_how_to_name_one(monkeypatch):
    monkeypatch.delenv("RLU_DIR", raising=False)
    with pytest.raises(InputError, match=r"expected option root, or \$RLU_DIR"):
        read_rlu(NAME)


def test_one_number_names_one_file(root):
    rlu.write(root / "Pong" / "run_1-00001-of-00050", [rlu.episode(np.arange(5))])
    with pytest.raises(InputError, match="has the number of run_1-00001-of-00003"):
        read_rlu(NAME, root=root)


def changed(**features):
    return {**rlu.episode(np.arange(1, 6)), **features}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({**changed(), "a\nb": np.arange(5), "episode_idx": np.arange(2)}, "episode_idx: 2 values"),
        ({"a\nb": np.arange(5), "observations": [b""]}, r"no 'actions'; has 'a\\nb', 'obs"),
        (changed(actions=np.arange(4)), "actions: 4 values, expected 5"),
        (changed(actions=np.array([0, 1, 18, 2, 3])), "actions: 18, expected 0 to 17"),
        (changed(actions=np.array([0, 1, -2, 2, 3])), "actions: -2, expected 0 to 17"),
        (changed(actions=np.ones(5, np.float32)), "actions: expected integers"),
        (changed(discounts=np.float32([1, 0, 1, 1, 0])), "discounts: 0 in row 1 of 5"),
        (changed(clipped_rewards=np.full(5, np.nan, np.float32)), "clipped_rewards: 5 of 5 rows"),
        (changed(observations=np.arange(5)), "observations: expected at least one PNG"),
        (changed(checkpoint_idx=np.array([-1])), "checkpoint_idx: -1, expected 0 to"),
        (changed(observations=[b"GIF89a"] * 5), "frame 0: expected a PNG of 84 x 84 gray pixels"),
        (changed(observations=[rlu.png(np.zeros((84, 80), np.uint8))] * 5), "frame 0: expected a"),
        (changed(observations=[rlu.png(np.zeros((84, 84), np.uint8))[:60]] * 5), "0: damaged"),
        ({"o_t": [b""], "a_t": np.array([1])}, "a single transition; expected episodes"),
        ({"actions": np.arange(5)}, "observations: expected at least one PNG"),
        (b"\xff\xff", "expected a tf.train.Example"),
        (b"\x0a\x7f", "a field of 127 bytes where 0 are left, expected a tf.train.Example"),
    ],
)
def test_a_record_that_is_no_episode_is_named(tmp_path, item, message):
    rlu.shard(tmp_path, 0, [rlu.episode(np.arange(1, 6)), item])
    with pytest.raises(InputError, match=f"run_1-00000-of-00003: record 1: .*{message}"):
        read_rlu(NAME, root=tmp_path)


def test_one_line_on_the_command_line(tmp_path, monkeypatch, capsys):
    path = rlu.shard(tmp_path, 0, [rlu.episode(np.arange(1, 6))])
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv("RLU_DIR", str(tmp_path))
    assert main(["info", NAME]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{path}: damaged or cut short" in error


def test_every_wrong_byte_is_noticed(tmp_path):
    """In the file, by gzip; in what it unpacks to, by the records' own checksums."""
    path = rlu.write(tmp_path / "one", [b"some bytes of a record", b"and of another"])
    packed = path.read_bytes()
    content = gzip.decompress(packed)
    assert [*read_records(path)] == [b"some bytes of a record", b"and of another"]

    for place in range(len(content)):
        wrong = bytearray(content)
        wrong[place] ^= 16
        path.write_bytes(gzip.compress(wrong, 1))
        with pytest.raises(InputError, match=r"record [01]: (wrong checksum|cut short)"):
            list(read_records(path))
    for length in range(1, len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(InputError, match="damaged or cut short"):
            list(read_records(path))


def test_a_record_may_not_claim_more_than_an_episode_takes(tmp_path):
    path = tmp_path / "large"
    length = struct.pack("<Q", 2**40)
    path.write_bytes(gzip.compress(length + struct.pack("<I", rlu.masked(length))))
    with pytest.raises(InputError, match=r"record 0: 1,099,511,627,776 bytes, expected at most"):
        list(read_records(path))


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 31, 32, 33, 300, 1000])
def test_checksums_equal_their_definition(size):
    content = np.random.default_rng(size).integers(256, size=size, dtype=np.uint8).tobytes()
    assert crc32c(content) == rlu.crc(content)
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720


def test_random_bytes_are_an_example_or_an_error():
    rng = np.random.default_rng(0)
    valid = rlu.example({"a": np.arange(300), "b": [b"x" * 200], "c": np.ones(4, np.float32)})
    assert [*read_example(valid)] == ["a", "b", "c"]

    refused = 0
    for _ in range(2000):
        wrong = bytearray(valid)
        for place in rng.integers(len(valid), size=3):
            wrong[place] = rng.integers(256)
        try:
            read_example(bytes(wrong))
        except WireError:
            refused += 1
    assert refused > 200


def test_a_message_may_not_have_more_fields_than_any_episode(monkeypatch):
    content = rlu.example({"b": [b""] * 9, "c": np.arange(9) + 200})
    assert len(read_example(content)["b"]) == 9
    monkeypatch.setattr("rlop.data.formats.tf_example.MOST", 8)
    with pytest.raises(WireError, match="more than 8 fields"):
        read_example(content)
    monkeypatch.setattr("rlop.data.formats.tf_example.MOST", 3)
    with pytest.raises(WireError, match="a list of integers of 40 bytes"):
        read_example(rlu.example({"c": np.arange(20) + 200}))


def test_the_shipped_configuration_trains_on_the_real_episodes(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("RLU_DIR", str(shared_data / "rlu"))
    config = Path(__file__).resolve().parents[1] / "configs" / "atari" / "rlu.yaml"
    small = (
        "--agent.network mlp --agent.hidden [4] --agent.batch_size 2 --steps 2 --eval_episodes 0"
    )
    argv = ["train", config, *small.split(), "--probe_size", "16", "--logdir", tmp_path / "log"]
    assert main([str(item) for item in argv]) == 0
    assert (tmp_path / "log" / "checkpoint.pt").exists()


def test_without_pillow_it_says_how_to_install_it(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(InputError, match="frames are PNG images: pip install pillow"):
        read_rlu(NAME, root=root)
