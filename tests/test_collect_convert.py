"""Any source written once as a file of another format, and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import rlu

from rlop.cli import main
from rlop.collect.convert import convert
from rlop.data import Dataset, load_dataset, read_dqn_replay, read_hdf5
from rlop.data.dqn_replay.stacks import Stacks
from rlop.data.units import with_bounds
from rlop.types import InputError, Spec


def run(*argv):
    return main([str(item) for item in argv])


def same(one, other, rows=slice(None)):
    """Assert that two data sets have the same rows; `rows` are those with a next_obs."""
    for key in ("obs", "action", "reward", "terminated", "truncated", "end"):
        found, expected = (np.asarray(getattr(data, key)) for data in (one, other))
        assert found.dtype == expected.dtype, key
        assert np.array_equal(found, expected), key
    assert np.array_equal(np.asarray(one.next_obs)[rows], np.asarray(other.next_obs)[rows])


def as_read(data):
    """The spec without the record of what reading dropped, which differs between formats."""
    return replace(data.spec, changes=())


@pytest.fixture
def log(tmp_path):
    """RL Unplugged's Pong: episodes that terminate and that are cut, of two checkpoints."""
    root = tmp_path / "rlu"
    for number in range(2):
        episodes = [
            rlu.episode(100 * number + np.arange(1, 13), number, 0),
            rlu.episode(100 * number + np.arange(20, 29), number, 1, terminated=False),
            rlu.episode(100 * number + np.arange(40, 47), number, 2),
        ]
        rlu.shard(root, number, episodes)
    return load_dataset("rlu:atari/Pong/1", root=root)


# ---- one file


@pytest.mark.parametrize("name", ["a.hdf5", "a.npz", "deeper/folder/a.h5"])
def test_discrete_rows_come_back(tiny, tmp_path, name):
    data = replace(tiny, spec=replace(tiny.spec, env_id="CartPole-v1"))
    again = load_dataset(convert(data, tmp_path / name))
    same(again, data)
    assert again.spec == data.spec


def test_units_and_the_environment_come_back(moves, tmp_path):
    data = with_bounds(moves, -2, [2, 3])
    spec = replace(data.spec, env_id="Pendulum-v1", env_kwargs={"g": 9.0}, obs_keys=("a/b", "c"))
    data = replace(data, spec=replace(spec, action_layout=(1, 2)), infos={"qpos": data.obs})
    path = convert(data, tmp_path / "moves.hdf5")

    again = read_hdf5(path, infos=True)
    same(again, data)
    assert again.spec == data.spec
    assert np.array_equal(again.infos["qpos"], data.obs)


@pytest.mark.parametrize("fields", [{"action_start": 1}, {"action_counts": (3, 1)}])
def test_numbering_of_actions_comes_back(tiny, tmp_path, fields):
    data = replace(tiny, spec=replace(tiny.spec, **fields))
    assert read_hdf5(convert(data, tmp_path / "a.hdf5")).spec == data.spec


def test_an_embedded_source_keeps_its_environment(tmp_path, capsys):
    source = "gridworld?size=4&steps=300"
    path = tmp_path / "grid.hdf5"
    assert run("collect", "--from", source, path) == 0
    assert "grid.hdf5: 300 transitions in " in capsys.readouterr().err

    data, again = load_dataset(source), load_dataset(path)
    same(again, data)
    assert again.spec == data.spec


def test_stacks_of_frames_are_written_out(log, tmp_path, monkeypatch):
    monkeypatch.setattr("rlop.data.formats.hdf5.PIECE", 7)
    for name in ("pong.hdf5", "pong.npz"):
        again = load_dataset(convert(log, tmp_path / name))
        assert not isinstance(again.obs, Stacks)
        same(again, log)
        assert as_read(again) == as_read(log)
    with h5py.File(tmp_path / "pong.hdf5") as file:
        assert np.array_equal(file["infos/first"], log.infos["first"])


def test_npz_refuses_what_it_cannot_hold(moves, tmp_path):
    data = with_bounds(moves, -2, 2)
    path = tmp_path / "moves.npz"
    with pytest.raises(InputError, match=r"cannot hold action_low, action_high of .* \*\.hdf5"):
        convert(data, path)
    assert list(tmp_path.iterdir()) == []


# ---- a replay log


@pytest.mark.parametrize("rows_per_file", [1_000_000, 40, 1])
def test_frames_come_back_from_a_replay_log(log, tmp_path, rows_per_file):
    folder = tmp_path / "Pong" / "3"
    logs = convert(log, folder, rows_per_file=rows_per_file)
    again = read_dqn_replay("dqn-replay:Pong/3", root=tmp_path, n_actions=6)

    same(again, log, rows=~log.terminated)
    assert as_read(again) == as_read(log)
    assert np.array_equal(again.infos["first"], log.infos["first"])
    assert len(list(logs.glob("*observation*"))) == {1_000_000: 1, 40: 2, 1: 6}[rows_per_file]
    assert [*folder.iterdir()] == [logs]


def test_real_episodes_come_back_from_a_replay_log(shared_data, tmp_path):
    data = load_dataset("rlu:atari/Asterix/1", root=shared_data / "rlu")
    convert(data, tmp_path / "Asterix" / "1")
    again = load_dataset("dqn-replay:Asterix/1", root=tmp_path)
    same(again, data, rows=~data.terminated)
    assert as_read(again) == as_read(data)


def test_a_part_without_its_beginning_is_refused(log, tmp_path):
    with pytest.raises(InputError, match="row 0 continues an episode whose beginning is not read"):
        convert(log.subset(np.arange(5, 30)), tmp_path / "Pong" / "1")
    assert not (tmp_path / "Pong" / "1" / "replay_logs").exists()


def test_a_log_that_fails_leaves_nothing(log, tmp_path, monkeypatch):
    def full(*args, **options):
        raise InputError("disk full")

    monkeypatch.setattr("rlop.collect.convert.write_dqn_replay", full)
    with pytest.raises(InputError, match="disk full"):
        convert(log, tmp_path / "Pong" / "1")
    assert [path for path in (tmp_path / "Pong").rglob("*") if path.is_file()] == []


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("a.csv", None, r"a\.csv: expected \*\.hdf5, \*\.h5, \*\.npz, or a folder GAME/RUN"),
        ("a.npz", "hdf5", r"a\.npz: expected a name \*\.hdf5 for the format hdf5"),
        ("a.npz", "dqn-replay", r"expected a folder GAME/RUN for the format dqn-replay"),
        ("a.hdf5", "csv", "format 'csv': unknown"),
        ("Pong/1", None, r"observations \(4,\), expected stacks of frames for dqn-replay"),
    ],
)
def test_a_format_that_does_not_fit_is_named(tiny, tmp_path, name, form, message):
    with pytest.raises(InputError, match=message):
        convert(tiny, tmp_path / name, form)


def test_nothing_is_overwritten(tiny, log, tmp_path):
    path = convert(tiny, tmp_path / "a.hdf5")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"a\.hdf5: exists already; choose another name"):
        convert(tiny, path)
    assert path.read_bytes() == before

    convert(log, tmp_path / "Pong" / "1")
    with pytest.raises(InputError, match="replay_logs: exists already; choose another number"):
        convert(log, tmp_path / "Pong" / "1")
    with pytest.raises(InputError, match=r"expected a folder that ends in Pong/RUN"):
        convert(log, tmp_path / "Breakout" / "1")


def test_rows_of_several_steps_are_refused(tiny, tmp_path):
    for data in (tiny.n_step(2, 0.9), tiny.with_next_action()):
        with pytest.raises(InputError, match="rows span several steps or have columns"):
            convert(data, tmp_path / "a.hdf5")


def test_options_of_playing_are_refused(tmp_path, capsys):
    out = tmp_path / "a.hdf5"
    assert run("collect", "--from", "gridworld", "--epsilon", "0.5", out) == 2
    assert "--epsilon: is of playing" in capsys.readouterr().err
    assert run("collect", "--from", "gridworld", "--overwrite", out) == 2
    with pytest.raises(SystemExit):
        run("collect", out)
    assert "expected --env ID, or --from SOURCE" in capsys.readouterr().err
    assert run("collect", "--env", "CartPole-v1", "--format", "npz", out) == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("obs_keys", "[1, 2]"),
        ("obs_keys", "a"),
        ("action_start", "[0]"),
        ("action_counts", "[2, 4]"),
        ("action_layout", "[3]"),
        ("action_layout", np.array([1.5, 2.0])),
    ],
)
def test_attributes_that_do_not_fit_are_named(tiny, tmp_path, name, value):
    path = convert(tiny, tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs[name] = value
    with pytest.raises(InputError, match=rf"a\.hdf5: attribute {name} = .*: does not fit"):
        read_hdf5(path)


def test_arguments_that_json_cannot_hold_are_refused(tiny, tmp_path):
    data = replace(tiny, spec=replace(tiny.spec, env_kwargs={"wrapper": Path}))
    with pytest.raises(InputError, match=r"env_kwargs: .* expected what JSON can hold"):
        convert(data, tmp_path / "a.hdf5")


def test_a_spec_has_a_place_for_every_field():
    """A field that is new must be stored, or named among those that are not."""
    from rlop.data.formats.spec_attributes import EXTRA, OTHERS

    known = {"n_actions", "env_id", "env_kwargs", "action_low", "action_high", *OTHERS, *EXTRA}
    assert known == set(Spec.__dataclass_fields__)
    assert Dataset.__dataclass_fields__.keys() >= {"spec", "infos"}
