"""Statistics of VecNormalize, read without executing their pickle."""

import builtins
import io
import os
import pickle
import sys

import numpy as np
import pytest
from helpers.collect import CONTINUOUS, Spaces

from rlop.collect.sb3_policy import load_sb3
from rlop.collect.vecnormalize import Reader, read_vecnormalize
from rlop.types import InputError


def trained_on_normalized(folder, protocol=4):
    """A PPO with VecNormalize around it, saved as a zip with its statistics next to it."""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = Spaces(5, CONTINUOUS)
    wrapped = VecNormalize(DummyVecEnv([lambda: env]), clip_obs=1.5, epsilon=1e-3)
    rng = np.random.default_rng(0)
    wrapped.obs_rms.update(rng.normal(3, [1, 2, 3, 4, 5], (100, 5)))

    model = sb3.PPO("MlpPolicy", wrapped, device="cpu", seed=0)
    model.save(folder / "m.zip")
    content = pickle.dumps(wrapped, protocol=protocol)
    (folder / "m.vecnormalize.pkl").write_bytes(content)
    return env, wrapped, model


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_statistics_are_read_without_unpickling(tmp_path, protocol, monkeypatch):
    env, wrapped, model = trained_on_normalized(tmp_path, protocol)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    normalizer = read_vecnormalize(tmp_path / "m.vecnormalize.pkl")
    act = load_sb3(tmp_path / "m.zip", env)

    obs = np.random.default_rng(1).normal(3, 5, (64, 5)).astype(np.float32)
    normalized = wrapped.normalize_obs(obs)
    expected, _ = model.predict(normalized, deterministic=True)
    assert normalizer.clip == 1.5
    np.testing.assert_array_equal(normalizer(obs), normalized.astype(np.float32))
    np.testing.assert_array_equal(act(obs, np.random.default_rng(0)), expected)
    with pytest.raises(InputError, match=r"m\.zip: .*does not fit"):
        load_sb3(tmp_path / "m.zip", Spaces(4, CONTINUOUS))


def test_statistics_of_rewards_alone_are_none(tmp_path):
    _, wrapped, _ = trained_on_normalized(tmp_path)
    wrapped.norm_obs = False
    wrapped.save(str(tmp_path / "vecnormalize.pkl"))
    assert read_vecnormalize(tmp_path / "vecnormalize.pkl") is None


class Call:
    """Pickles into a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touched(path):
    raise AssertionError("executed")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        lambda path: Call(os.system, f"touch {path}"),
        lambda path: Call(builtins.exec, f"open({str(path)!r}, 'w').close()"),
        lambda path: Call(builtins.open, str(path), "w"),
        lambda path: Call(touched, path),
        lambda path: Call(builtins.getattr, Call(builtins.__import__, "os"), "system"),
        lambda path: [1, {"obs_rms": Call(os.mkdir, str(path))}],
    ],
    ids=["system", "exec", "open", "function", "getattr", "nested"],
)
def test_a_malicious_pickle_does_nothing(tmp_path, call, protocol):
    target = tmp_path / "touched"
    file = tmp_path / "vecnormalize.pkl"
    file.write_bytes(pickle.dumps(call(target), protocol=protocol))
    modules = set(sys.modules)
    with pytest.raises(InputError, match=r"vecnormalize\.pkl: "):
        read_vecnormalize(file)
    assert not target.exists()
    assert set(sys.modules) == modules


def test_no_module_that_a_pickle_names_is_imported(tmp_path):
    file = tmp_path / "vecnormalize.pkl"
    file.write_bytes(b"cnot_imported_before\nthing\n.")
    refused = r"holds not_imported_before\.thing|not a pickle|holds type"
    with pytest.raises(InputError, match=refused):
        read_vecnormalize(file)
    assert "not_imported_before" not in sys.modules


def test_a_malicious_pickle_inside_true_statistics_does_nothing(tmp_path):
    _, wrapped, _ = trained_on_normalized(tmp_path)
    mean = wrapped.obs_rms.mean
    target = tmp_path / "touched"
    trap = Call(os.system, f"touch {target}")

    content = pickle.dumps({**wrapped.__getstate__(), "extra": trap})
    assert b"system" in content
    Reader(io.BytesIO(content)).load()
    assert not target.exists()

    wrapped.clip_reward = trap
    wrapped.save(str(tmp_path / "m.vecnormalize.pkl"))
    normalizer = read_vecnormalize(tmp_path / "m.vecnormalize.pkl")
    np.testing.assert_array_equal(normalizer.mean, mean)
    assert not target.exists()


def with_moments(**changes):
    """Change the running mean or variance."""

    def change(wrapped):
        for name, function in changes.items():
            moment = wrapped.obs_rms.__dict__[name]
            wrapped.obs_rms.__dict__[name] = function(moment)

    return change


def with_attributes(**changes):
    """Replace attributes of VecNormalize."""
    return lambda wrapped: wrapped.__dict__.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_attributes(obs_rms={"a": 1}), "holds dict, expected RunningMeanStd"),
        (with_attributes(epsilon="x"), "two numbers"),
        (with_moments(mean=lambda m: m.astype(object)), "mean is no array of floats: dtype"),
        (with_moments(mean=lambda m: "x"), "mean is no array of floats"),
        (with_moments(var=lambda v: v[:3]), r"mean \(5,\), var \(3,\)"),
        (with_moments(var=lambda v: -v), "not positive"),
    ],
)
def test_statistics_that_make_no_sense_are_named(tmp_path, change, message):
    _, wrapped, _ = trained_on_normalized(tmp_path)
    change(wrapped)
    wrapped.save(str(tmp_path / "m.vecnormalize.pkl"))
    refused = rf"m\.vecnormalize\.pkl: .*{message}"
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=refused):
        read_vecnormalize(tmp_path / "m.vecnormalize.pkl")
