"""Behavior policies in files of D4RL: formulas by loops, real files, and rolling them out."""

from __future__ import annotations

import json
import math

import gymnasium
import h5py
import numpy as np
import pytest

from rlop.collect.collector import collect
from rlop.collect.d4rl_policy import (
    StoredPolicy,
    draw,
    file_of,
    load_d4rl,
    log_probs,
    outputs,
    read_policy,
)
from rlop.types import InputError

S, H, A = 3, 5, 1  # Pendulum's sizes
MUJOCO = ("ant_medium-v2", "halfcheetah_medium-v2", "hopper_medium-v2")
ADROIT = ("door-expert-v1", "hammer-expert-v1", "pen-expert-v1")


def weights(distribution="tanh_gaussian", nonlinearity="relu", seed=0, n_actions=A):
    """Arrays of a file with a policy, by key."""
    rng = np.random.default_rng(seed)
    widths = {"fc0": (S, H), "fc1": (H, H), "last_fc": (H, n_actions)}
    if distribution != "deterministic":
        widths["last_fc_log_std"] = (H, n_actions)

    made = {}
    for name, (n_in, n_out) in widths.items():
        shape = (n_in, n_out) if distribution == "deterministic" else (n_out, n_in)
        made[f"metadata/policy/{name}/weight"] = rng.standard_normal(shape).astype(np.float32)
        made[f"metadata/policy/{name}/bias"] = rng.standard_normal(n_out).astype(np.float32)
    made["metadata/policy/output_distribution"] = distribution.encode()
    made["metadata/policy/nonlinearity"] = nonlinearity.encode()
    return made


def put(path, arrays, **changes):
    """Write a file; a change to None leaves a key out."""
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            short = key.removeprefix("metadata/policy/").replace("/", "_")
            value = changes.get(short, value)
            if value is not None:
                file[key] = value
        for key, value in changes.items():
            if key == "widths":
                file["infos/action_log_std"] = value
    return path


def by_loops(arrays, obs):
    """m and log sigma of one observation, written as sums."""
    kind = arrays["metadata/policy/output_distribution"].decode()
    squash = {"relu": lambda x: max(x, 0.0), "tanh": math.tanh}[
        arrays["metadata/policy/nonlinearity"].decode()
    ]

    def apply(name, x):
        weight = arrays[f"metadata/policy/{name}/weight"].astype(float)
        bias = arrays[f"metadata/policy/{name}/bias"].astype(float)
        if kind != "deterministic":
            weight = weight.T
        sums = [float(b) for b in bias]
        for i, value in enumerate(x):
            for j in range(len(bias)):
                sums[j] += value * weight[i, j]
        return sums

    h = [squash(v) for v in apply("fc0", obs)]
    h = [squash(v) for v in apply("fc1", h)]
    mean = apply("last_fc", h)
    return mean, None if kind == "deterministic" else apply("last_fc_log_std", h)


@pytest.mark.parametrize("distribution", ["tanh_gaussian", "gaussian", "deterministic"])
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_outputs_are_sums_by_hand(tmp_path, distribution, nonlinearity):
    arrays = weights(distribution, nonlinearity)
    policy = read_policy(put(tmp_path / "p.hdf5", arrays))
    assert (policy.distribution, policy.nonlinearity, policy.n_obs) == (
        distribution,
        nonlinearity,
        S,
    )

    obs = np.random.default_rng(1).standard_normal((20, S)).astype(np.float32)
    mean, log_std = outputs(policy, obs)
    for row, one in enumerate(obs):
        m, width = by_loops(arrays, one)
        np.testing.assert_allclose(mean[row], m, rtol=1e-12)
        if width is None:
            assert log_std is None
            continue
        if distribution == "tanh_gaussian":
            width = np.clip(width, -20, 2)
        np.testing.assert_allclose(log_std[row], width, rtol=1e-12)


@pytest.mark.parametrize("distribution", ["tanh_gaussian", "gaussian"])
def test_draws_follow_the_density(tmp_path, distribution):
    arrays = weights(distribution)
    arrays["metadata/policy/last_fc_log_std/weight"] *= 0
    arrays["metadata/policy/last_fc_log_std/bias"][:] = -1.0
    policy = read_policy(put(tmp_path / "p.hdf5", arrays))

    obs = np.array([[0.1, -0.2, 0.05]])
    mean, _ = outputs(policy, obs)
    many = np.repeat(obs, 20_000, axis=0)
    actions = draw(policy, many, np.random.default_rng(0))
    assert actions.shape == (20_000, 1)
    assert np.abs(actions).max() <= 1

    u = np.arctanh(actions) if distribution == "tanh_gaussian" else actions
    inside = np.abs(actions) < 1
    expected = mean[0, 0] + np.exp(-1) * np.random.default_rng(0).standard_normal((20_000, 1))
    np.testing.assert_allclose(u[inside], expected[inside], atol=1e-6)

    # The density integrates to the share of draws inside the interval.
    edges = np.linspace(-0.999, 0.999, 4001)[:, None]
    density = np.exp(log_probs(policy, np.repeat(obs, 4001, axis=0), edges))
    share = (np.abs(actions) < 0.999).mean()
    step = edges[1, 0] - edges[0, 0]
    assert density.sum() * step == pytest.approx(share, abs=0.02)


def test_deterministic_actions_are_squashed_means(tmp_path):
    policy = read_policy(put(tmp_path / "p.hdf5", weights("deterministic")))
    obs = np.ones((2, S))
    actions = draw(policy, obs, np.random.default_rng(0))
    np.testing.assert_array_equal(actions, np.tanh(outputs(policy, obs)[0]))
    with pytest.raises(InputError, match="no density"):
        log_probs(policy, obs, actions)


# ---- real files


@pytest.mark.parametrize("name", MUJOCO)
def test_log_probabilities_are_the_stored_ones(shared_data, name):
    path = shared_data / "d4rl" / f"{name}.hdf5"
    policy = read_policy(path)
    with h5py.File(path) as file:
        ours = log_probs(policy, file["observations"][()], file["actions"][()])
        error = np.abs(ours - file["infos/action_log_probs"][()])
    assert np.median(error) < 1e-4
    assert error.max() < 0.02


@pytest.mark.parametrize("name", ADROIT)
def test_means_and_widths_are_the_stored_ones(shared_data, name):
    path = shared_data / "d4rl" / f"{name}.hdf5"
    policy = read_policy(path)
    with h5py.File(path) as file:
        obs, actions = file["observations"][()], file["actions"][()]
        mean, log_std = outputs(policy, obs)
        np.testing.assert_allclose(mean, file["infos/action_mean"][()], atol=2e-6)
        np.testing.assert_array_equal(log_std, file["infos/action_log_std"][()])

    # The stored noise is as wide as ours, where clipping leaves it whole.
    whole = np.abs(mean) + 3 * np.exp(log_std) < 1
    noise = ((actions - mean) / np.exp(log_std))[whole]
    assert noise.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["door-cloned-v1", "pen-cloned-v1"])
def test_cloned_policies_are_near_the_stored_actions(shared_data, name):
    path = shared_data / "d4rl" / f"{name}.hdf5"
    policy = read_policy(path)
    with h5py.File(path) as file:
        ours = draw(policy, file["observations"][()], np.random.default_rng(0))
        distance = np.abs(ours - file["actions"][()]).mean()
    assert distance < 0.06


# ---- rolling out


def test_collecting_with_a_stored_policy(tmp_path):
    path = put(tmp_path / "mine.hdf5", weights())
    out = tmp_path / "out.hdf5"
    collect("Pendulum-v1", f"d4rl:{path}", 300, out, n_envs=3)
    with h5py.File(out) as file:
        assert file.attrs["policy"] == "d4rl:mine.hdf5"
        assert file.attrs["distribution"] == "tanh_gaussian"
        assert file.attrs["stochastic"]
        (about,) = json.loads(file.attrs["policies"])
        assert len(about["policy_sha256"]) == 64
        obs, stored = file["observations"][()], file["actions"][()]

    policy = read_policy(path)
    assert np.isfinite(log_probs(policy, obs, stored)).all()
    mean, log_std = outputs(policy, obs)
    inside = np.abs(stored) < 0.999
    noise = ((np.arctanh(stored.clip(-0.9999, 0.9999)) - mean) / np.exp(log_std))[inside]
    assert abs(noise).max() < 5

    # Pendulum's own units are [-2, 2].
    act, _, _ = load_d4rl(str(path), gymnasium.make("Pendulum-v1"))
    played = act(obs[:4], np.random.default_rng(0))
    np.testing.assert_allclose(played, 2 * draw(policy, obs[:4], np.random.default_rng(0)), 1e-5)


def test_names_of_files(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"hopper-medium-v2: no file .*hopper_medium-v2\.hdf5"):
        file_of("hopper-medium-v2.hdf5")
    with pytest.raises(InputError, match=r"^policy 'd4rl:nowhere': no such file, and 'nowhere'"):
        file_of("nowhere")

    (tmp_path / "sets").mkdir()
    path = put(tmp_path / "sets" / "hopper_medium-v2.hdf5", weights())
    assert file_of("hopper-medium-v2") == file_of("hopper-medium-v2.hdf5") == path
    assert file_of("~/sets/hopper_medium-v2.hdf5") == path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_distribution": b"beta"}, r"output_distribution 'beta': unknown; one of tanh_g"),
        ({"output_distribution": 3.0}, r"output_distribution '3\.0': unknown"),
        ({"nonlinearity": b"\xff"}, r"policy/nonlinearity '.*': unknown; one of relu, tanh"),
        ({"nonlinearity": None}, r"policy/nonlinearity 'None': unknown"),
        ({"fc0_weight": None}, r"policy/fc0/weight: missing, expected an array of 2 axes$"),
        ({"last_fc_bias": None}, r"policy/last_fc/bias: missing"),
        ({"fc1_bias": np.zeros(4)}, r"policy/fc1: 5 outputs and 4 biases, expected as many$"),
        ({"fc0_weight": np.zeros((5, 3), int)}, r"fc0/weight: int64 of shape \(5, 3\), expected"),
        ({"fc1_weight": np.zeros((5, 4))}, r"a layer of 4 inputs after 5 outputs$"),
        ({"last_fc_weight": np.zeros((1, 4))}, r"a last layer \(4, 1\), expected \(5, 1\)$"),
        ({"fc0_bias": np.full(5, np.nan)}, r"fc0/bias: holds NaN or infinity, expected numbers$"),
    ],
)
def test_wrong_policies_are_named(tmp_path, changes, message):
    path = put(tmp_path / "p.hdf5", weights(), **changes)
    with pytest.raises(InputError, match=message) as error:
        read_policy(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_without_a_policy_and_other_spaces(tmp_path):
    with h5py.File(tmp_path / "none.hdf5", "w") as file:
        file["observations"] = np.zeros((3, S))
    with pytest.raises(InputError, match=r"none\.hdf5: no metadata/policy, expected a file of D4"):
        read_policy(tmp_path / "none.hdf5")

    path = put(tmp_path / "p.hdf5", weights())
    message = r"maps observations \(3,\) to actions \(1,\), the environment has observations \(4,\)"
    with pytest.raises(InputError, match=message):
        collect("CartPole-v1", f"d4rl:{path}", 10, tmp_path / "out.hdf5")

    path = put(tmp_path / "d.hdf5", weights("deterministic"))
    with pytest.raises(InputError, match=r"d\.hdf5: its policy is deterministic, nothing to draw"):
        collect("Pendulum-v1", f"stochastic:d4rl:{path}", 10, tmp_path / "out.hdf5")


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual"])
def test_weights_outside_the_file_are_not_read(tmp_path, how):
    put(tmp_path / "other.hdf5", weights())
    path = put(tmp_path / "p.hdf5", weights(), fc0_bias=None)
    key = "metadata/policy/fc0/bias"
    with h5py.File(path, "a") as file:
        if how == "external link":
            file[key] = h5py.ExternalLink("other.hdf5", key)
        elif how == "soft link":
            file[key] = h5py.SoftLink("/metadata/policy/fc1/bias")
        elif how == "external storage":
            (tmp_path / "raw").write_bytes(bytes(4 * H))
            file.create_dataset(key, (H,), "f4", external=[(str(tmp_path / "raw"), 0, 4 * H)])
        else:
            layout = h5py.VirtualLayout((H,), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), key, (H,))
            file.create_virtual_dataset(key, layout)
    with pytest.raises(InputError, match=r"policy/fc0/bias: missing, expected"):
        read_policy(path)


def test_a_width_that_copies_the_mean_is_read_from_the_rows(tmp_path):
    arrays = weights("gaussian", n_actions=2)
    copied = {
        "last_fc_log_std_weight": arrays["metadata/policy/last_fc/weight"],
        "last_fc_log_std_bias": arrays["metadata/policy/last_fc/bias"],
    }
    rows = np.tile(np.float32([-1.5, -2.5]), (6, 1))
    policy = read_policy(put(tmp_path / "a.hdf5", arrays, widths=rows, **copied))
    assert isinstance(policy, StoredPolicy)
    _, log_std = outputs(policy, np.ones((3, S)))
    assert log_std.tolist() == [[-1.5, -2.5]] * 3

    for wrong, message in (
        (None, r"is a copy of last_fc, and there is no infos/action_log_std of 2 columns"),
        (rows[:, :1], r"is a copy of last_fc, and there is no infos/action_log_std of 2"),
        (rows + np.arange(6)[:, None], r"infos/action_log_std: rows differ or are not finite"),
    ):
        changes = {**copied, **({} if wrong is None else {"widths": wrong})}
        with pytest.raises(InputError, match=message):
            read_policy(put(tmp_path / "b.hdf5", arrays, **changes))
