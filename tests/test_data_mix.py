"""Mixtures of data sets: drawn by weight, not copied, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.data import make
from helpers.replay import folder_of, log, plain, save
from helpers.training import parameters_of
from rlop.agents import DQN

import rlop
from rlop.data import mix
from rlop.data.dqn_replay.reader import read_dqn_replay
from rlop.data.info import summary
from rlop.data.joined import Joined
from rlop.data.sampler import Streams, Table, probe_batch
from rlop.data.tables import make_table
from rlop.data.transforms import transform
from rlop.training.options import Experiment
from rlop.training.run import data_of
from rlop.types import InputError

LENGTHS = [(3, 4, 2), (5, 1), (2, 6, 3, 1)]


def sources():
    """Three data sets of 9, 6 and 12 rows."""
    made = []
    for number, lengths in enumerate(LENGTHS):
        over = [index % 2 == 0 for index in range(len(lengths))]
        data = replace(make(lengths, over, seed=number), name=f"part{number}")
        made.append(replace(data, obs=data.obs + 100 * number, next_obs=data.next_obs + number))
    return made


def joined_by_hand(parts):
    """The same rows as one ordinary data set."""
    columns = {}
    for key in ("obs", "action", "reward", "next_obs", "terminated", "truncated", "end"):
        columns[key] = np.concatenate([getattr(part, key) for part in parts])
    return replace(parts[0], **columns)


# ---- the data set


@pytest.mark.parametrize(
    "prepare",
    [
        lambda data: data,
        lambda data: data.n_step(3, 0.9),
        lambda data: data.with_mc_returns(0.9, 0.7),
        lambda data: data.with_next_action().n_step(2, 0.5),
        lambda data: transform(data, {"top_returns": {"fraction": 0.5}}),
        lambda data: transform(data, {"normalize_obs": {}, "scale_reward": {"scale": 2.0}}),
        lambda data: data.subset(np.arange(9, 15)),
        lambda data: data.subset([20, 3, 11, 3]),
    ],
)
def test_a_mixture_holds_the_rows_of_its_sources(prepare):
    parts = sources()
    data, expected = prepare(mix(parts)), prepare(joined_by_hand(parts))
    assert len(data) == len(expected)
    index = torch.arange(len(data)).reshape(1, -1)
    found = make_table(data.columns()).gather(index)
    wanted = make_table(expected.columns()).gather(index)
    for name, value in wanted._asdict().items():
        if name != "extra":
            assert torch.equal(getattr(found, name), value), name
    assert found.extra.keys() == wanted.extra.keys()
    for name, value in wanted.extra.items():
        assert torch.equal(found.extra[name], value)
    assert np.array_equal(data.end, expected.end)


def test_observations_are_not_copied():
    parts = sources()
    table = make_table(mix(parts).columns())
    for part, inner in zip(parts, table.tables, strict=True):
        assert np.shares_memory(part.obs, inner.columns["obs"].numpy())
        assert np.shares_memory(part.next_obs, inner.columns["next_obs"].numpy())


def test_joined_arrays_look_like_one():
    arrays = [np.arange(n * 2, dtype=np.float32).reshape(n, 2) + 50 * n for n in (3, 1, 4)]
    joined, whole = Joined(tuple(arrays)), np.concatenate(arrays)
    assert joined.shape == whole.shape
    assert (joined.ndim, joined.dtype, joined.nbytes) == (2, np.float32, whole.nbytes)
    for rows in (
        slice(None),
        slice(2, 5),
        slice(3, 3),
        [0, 0, 2, 3],
        [7, 1],
        whole[:, 0] > 150,
        -1,
    ):
        assert np.array_equal(np.asarray(joined[rows]), whole[rows])
    assert np.array_equal(joined.min(0), whole.min(0))
    assert np.array_equal(joined.max(0), whole.max(0))
    assert isinstance(joined[3:8], Joined)
    assert np.shares_memory(joined[4:8], arrays[2])


def test_replay_logs_mix_without_their_stacks_being_built(tmp_path):
    rng = np.random.default_rng(0)
    logs = []
    for name in ("a", "b"):
        folder = folder_of(tmp_path / name)
        save(folder, 0, log(rng, 60, 0.05), 59, np.arange(0))
        logs.append(read_dqn_replay("dqn-replay:Pong/1", root=str(tmp_path / name), n_actions=6))
    data = mix(logs, [1, 2])
    expected = np.concatenate([plain(part).obs for part in logs])
    index = torch.tensor([[0, len(data) - 1, len(logs[0])]])
    found = make_table(data.columns()).gather(index)
    assert np.array_equal(found.obs[0], expected[index[0]])
    assert found.obs.dtype == torch.uint8
    assert len(probe_batch(data.columns(), 20, 1).obs[0]) == 20


# ---- draws


def drawn(data, seeds, steps=400):
    streams = Streams(seeds, 50, len(data), {}, mixture=data.mixture)
    return torch.stack([streams.next()[0] for _ in range(steps)], 1).numpy()


def test_a_source_is_drawn_by_its_weight_and_its_rows_alike():
    data = mix(sources(), [6.0, 3.0, 1.0])
    rows = drawn(data, [0]).reshape(-1)
    shares = np.bincount(data.mixture.source[rows]) / len(rows)
    # 20,000 draws: a standard deviation of at most .0035.
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.015)
    for source, share in enumerate((0.6, 0.3, 0.1)):
        inside = np.flatnonzero(data.mixture.source == source)
        counts = np.bincount(rows, minlength=len(data))[inside] / len(rows)
        np.testing.assert_allclose(counts, share / len(inside), atol=0.01)


def test_without_weights_all_rows_are_alike():
    counts = np.bincount(drawn(mix(sources()), [1]).reshape(-1), minlength=27) / 20_000
    np.testing.assert_allclose(counts, 1 / 27, atol=0.008)


def test_a_run_draws_the_same_alone_and_among_others():
    data = mix(sources(), [1, 2, 3])
    among, alone = drawn(data, [4, 9]), drawn(data, [9])
    assert np.array_equal(among[1], alone[0])
    assert not np.array_equal(among[0], among[1])


def test_rows_out_of_order_keep_their_weights():
    data = mix(sources(), [1, 1, 2]).subset([26, 0, 10, 25, 1])
    rows = drawn(data, [0]).reshape(-1)
    shares = np.bincount(rows, minlength=5) / len(rows)
    np.testing.assert_allclose(shares, [0.25, 0.125, 0.25, 0.25, 0.125], atol=0.015)


def test_a_training_on_a_mixture_resumes_with_the_same_numbers(tmp_path):
    data = mix(sources(), [1, 1, 2])
    agents = [
        DQN(data.spec, seeds=2, hidden=(8,), batch_size=4, n_step=2, target_period=3)
        for _ in range(3)
    ]
    whole, half, rest = agents
    options = {"log_every": 10, "checkpoint_every": 0, "probe_every": 0}
    rlop.train(whole, data, 60, **options)
    rlop.train(half, data, 23, logdir=tmp_path, **options)
    rlop.train(rest, data, 60, logdir=tmp_path, resume=True, **options)
    for name, value in parameters_of(whole).items():
        assert torch.equal(value, parameters_of(rest)[name]), name


# ---- refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_actions": 4}, r"mix: other: n_actions = 4, but part0 has 3; expected the same of all"),
        ({"obs_shape": (3,)}, r"other: obs_shape = \(3,\), but part0 has \(2,\)"),
        ({"env_id": "CartPole-v1"}, "other: env_id = CartPole-v1, but part0 has Acrobot-v1"),
        ({"obs_normalizer": ((0.0,), (1.0,))}, "other: obs_normalizer = "),
    ],
)
def test_specs_must_agree(change, message):
    first, other, _ = sources()
    first = replace(first, spec=replace(first.spec, env_id="Acrobot-v1"))
    spec = replace(other.spec, **{"env_id": "Acrobot-v1", **change})
    with pytest.raises(InputError, match=message):
        mix([first, replace(other, name="other", spec=spec)])


def test_an_unknown_environment_is_that_of_the_other_sources():
    first, other, _ = sources()
    known = replace(other.spec, env_id="Acrobot-v1", env_kwargs={"x": 1})
    spec = mix([first, replace(other, spec=known)]).spec
    assert (spec.env_id, spec.env_kwargs) == ("Acrobot-v1", {"x": 1})


def test_what_cannot_be_mixed_is_named():
    parts = sources()
    with pytest.raises(InputError, match=r"mix: part1: expected the rows of single steps"):
        mix([parts[0], parts[1].n_step(2, 0.9)])
    with pytest.raises(InputError, match=r"is a mixture; name all sources in one list"):
        mix([parts[0], mix(parts)])
    with pytest.raises(InputError, match="mix: no sources"):
        mix([])
    with pytest.raises(InputError, match="mix: 1 weights, expected 3"):
        mix(parts, [1.0])
    for weight in (0, -1, float("nan"), float("inf"), "2", [1], True):
        with pytest.raises(InputError, match=r"weight of part1 = .*: expected a number above 0"):
            mix(parts, [1, weight, 1])

    data = mix(parts, [1, 2, 3]).subset(np.arange(9))
    with pytest.raises(InputError, match="no row of part1 is left"):
        Streams([0], 4, len(data), {}, mixture=data.mixture)


# ---- configuration


SMALL = "gridworld?size=4&steps=60"
LARGE = "gridworld?size=4&steps=200"


def test_a_configuration_names_the_sources():
    wanted = [
        {"source": SMALL, "weight": 3, "transforms": {"scale_reward": {"scale": 2.0}}},
        {"source": LARGE, "weight": 1},
    ]
    data = data_of(Experiment(data="mix", data_options={"sources": wanted}))
    small, large = rlop.load_dataset(SMALL), rlop.load_dataset(LARGE)
    assert np.array_equal(data.reward, np.append(2 * small.reward, large.reward))
    assert data.mixture.weights == (3, 1)
    assert data.spec.env_id == small.spec.env_id
    assert "75.0% from gridworld?size=4&steps=60+reward*2+0 (60 rows)" in summary(data)
    assert data.spec.changes == (f"mix(3 of {SMALL}+reward*2+0, 1 of {LARGE})",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"mix: expected sources: \[\{source: NAME, weight: 1\}, \.\.\.\]"),
        ({"sources": "gridworld"}, "mix: sources = .*expected a list"),
        ({"sources": ["gridworld"]}, r"sources\[0\] = .*: expected \{source: NAME"),
        ({"sources": [{"source": SMALL, "wieght": 1}]}, r"no option 'wieght', did you mean 'weig"),
        ({"sources": [{"source": SMALL, "options": 3}]}, r"options = 3: expected options by name"),
        ({"sources": [{"source": SMALL, "weight": 0}]}, r"weight of grid.* = 0: expected a number"),
        (
            {"sources": [{"source": SMALL, "weight": 1}, {"source": LARGE}]},
            "1 weights for 2 sources: expected one for each, or none",
        ),
        ({"sources": [{"source": "gridwold"}]}, "data 'gridwold': expected"),
        ({"sources": [{"source": SMALL, "transforms": 1}]}, "transforms = 1: expected"),
    ],
)
def test_wrong_sources_are_named(given, message):
    with pytest.raises(InputError, match=message):
        rlop.load_dataset("mix", **given)


def test_tables_of_one_source_are_ordinary():
    assert type(make_table(sources()[0].columns())) is Table
