"""Trainings on data in mapped files: the very numbers of trainings on the same data in memory."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.replay import NAME, save_three
from rlop.agents import BC, CQL, DQN
from test_data_cache import every_array_in_a_file, write_hdf5, write_npz  # noqa: F401  # a fixture

import rlop
from rlop.data import load_dataset
from rlop.data.mapped import file_of
from rlop.data.tables import MappedTable, make_table
from rlop.data.transforms import transform

STEPS = 6
SMALL = {"batch_size": 8, "hidden": [8], "seeds": 2}


def trained(agent, data, **options):
    schedule = {"log_every": 2, "probe_every": 3, "eval_every": 0, **options}
    history = rlop.train(agent, data, STEPS, progress=False, compile=False, **schedule)
    return {name: series for name, series in history.metrics.items() if "time/" not in name}


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name][1], other[name][1], equal_nan=True), name
    return True


def mixture(folder, **options):
    sources = [
        {"source": write_hdf5(folder), "weight": 3},
        {"source": write_npz(folder), "weight": 1},
    ]
    return load_dataset("mix", sources=sources, **options)


def single(folder, **options):
    return load_dataset(write_hdf5(folder), **options)


@pytest.mark.parametrize("load", [single, mixture])
@pytest.mark.parametrize("options", [{}, {"validation": 0.2}])
def test_states_and_mixtures_train_to_the_bit(load, options, tmp_path):
    plain = transform(load(tmp_path), {"normalize_obs": {}})
    large = transform(load(tmp_path, cache=str(tmp_path / "cache")), {"normalize_obs": {}})
    assert make_table(large.columns()).on_disk
    assert not make_table(plain.columns()).on_disk
    one = trained(CQL(plain.spec, **SMALL), plain, **options)
    assert equal(one, trained(CQL(large.spec, **SMALL), large, **options))


def test_the_small_columns_of_a_mixture_are_in_files_too(tmp_path):
    data = mixture(tmp_path, cache=str(tmp_path / "cache"))
    assert all(file_of(part) is not None for part in data.obs.parts)
    assert file_of(data.action) is not None
    assert file_of(data.reward) is not None


def test_frames_of_a_replay_log_train_to_the_bit(tmp_path):
    save_three(tmp_path)
    plain = load_dataset(NAME, root=tmp_path)
    large = load_dataset(NAME, root=tmp_path, cache=tmp_path / "cache")
    assert file_of(large.obs.frames) is not None
    assert np.shares_memory(large.obs.frames, large.next_obs.frames)
    options = {"batch_size": 4, "hidden": [8], "network": "mlp"}
    one = trained(BC(plain.spec, **options), plain)
    assert equal(one, trained(BC(large.spec, **options), large))


def test_a_training_in_memory_goes_on_from_a_cache(tmp_path):
    source = "gridworld?size=4&steps=300"
    plain, large = load_dataset(source), load_dataset(source, cache=tmp_path / "cache")
    assert isinstance(make_table(large.columns()), MappedTable)
    options = {"compile": False, "progress": False, "log_every": 1, "eval_every": 0}
    whole = rlop.train(DQN(plain.spec, **SMALL), plain, 6, **options)
    rlop.train(DQN(plain.spec, **SMALL), plain, 3, logdir=tmp_path / "run", **options)
    rest = rlop.train(
        DQN(large.spec, **SMALL), large, 6, logdir=tmp_path / "run", resume=True, **options
    )
    assert np.array_equal(whole.get("loss/td")[1], rest.get("loss/td")[1])
