"""Policies read from zips of Stable-Baselines3 without unpickling."""

import hashlib
import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.collect import CONTINUOUS, DISCRETE, Spaces, read

from rlop.collect.collector import collect
from rlop.collect.sb3_policy import load_sb3
from rlop.data import load_dataset
from rlop.types import InputError

sb3 = pytest.importorskip("stable_baselines3")

ALGORITHMS = {"A2C": sb3.A2C, "DQN": sb3.DQN, "PPO": sb3.PPO, "SAC": sb3.SAC, "TD3": sb3.TD3}
SMALL_BUFFER = {"buffer_size": 10, "policy_kwargs": {"net_arch": [16]}}


def save(path, name, env, policy="MlpPolicy", **options):
    """Save an untrained model, and return it."""
    # A copy, since models add to the arguments of their policy.
    model = ALGORITHMS[name](policy, env, device="cpu", seed=0, **deepcopy(options))
    model.save(path)
    return model


def acts(path, env, obs, **options):
    """The actions of the policy in a zip."""
    return load_sb3(path, env, **options)(obs, np.random.default_rng(0))


@pytest.fixture
def no_unpickling(monkeypatch):
    """Return a function after whose call nothing can be unpickled."""
    cloudpickle = pytest.importorskip("cloudpickle")

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled something")

    def forbid():
        for module in (pickle, cloudpickle):
            monkeypatch.setattr(module, "loads", refuse)
            monkeypatch.setattr(module, "load", refuse)

    return forbid


@pytest.mark.parametrize(
    ("name", "actions", "options"),
    [
        ("DQN", DISCRETE, {"buffer_size": 10}),
        ("PPO", DISCRETE, {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16]}}}),
        (
            "PPO",
            CONTINUOUS,
            {"policy_kwargs": {"activation_fn": torch.nn.ReLU, "log_std_init": -1.0}},
        ),
        ("A2C", CONTINUOUS, {"use_sde": True}),
        ("SAC", CONTINUOUS, SMALL_BUFFER),
        ("TD3", CONTINUOUS, SMALL_BUFFER),
    ],
)
def test_zips_act_as_their_models_and_no_pickle_is_opened(
    tmp_path, no_unpickling, name, actions, options
):
    path = tmp_path / "m.zip"
    env = Spaces(5, actions)
    model = save(path, name, env, **options)
    no_unpickling()

    obs = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    expected, _ = model.predict(obs, deterministic=True)
    assert len(np.unique(expected)) > 1
    for algorithm in (None, name.lower()):
        np.testing.assert_array_equal(acts(path, env, obs, algorithm=algorithm), expected)


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (
            Spaces(4, DISCRETE),
            {},
            r"m\.zip: DQNPolicy does not fit observations \(4,\).*size mismatch",
        ),
        (Spaces(5, CONTINUOUS), {}, "DQNPolicy does not fit"),
        (
            Spaces(5, DISCRETE),
            {"algorithm": "ppo"},
            r"holds stable_baselines3\.dqn\.policies\.DQNPolicy, which is not ppo's",
        ),
        (Spaces(5, DISCRETE), {"algorithm": "dqm"}, "algorithm 'dqm': unknown, did you mean 'dqn'"),
        (
            Spaces(5, DISCRETE),
            {"stochastic": True},
            "DQNPolicy has one action per observation, nothing to draw from",
        ),
    ],
)
def test_zips_that_do_not_fit_are_named(tmp_path, space, options, message):
    path = tmp_path / "m.zip"
    save(path, "DQN", Spaces(5, DISCRETE), buffer_size=10)
    with pytest.raises(InputError, match=message):
        load_sb3(path, space, **options)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "m.zip"
    save(path, "DQN", Spaces(5, DISCRETE), buffer_size=10)
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"vecnormalize\.pkl: not a pickle .*EOFError"):
        load_sb3(path, Spaces(5, DISCRETE))

    text = tmp_path / "text.zip"
    text.write_text("no")
    with pytest.raises(InputError, match=r"text\.zip: not a zip of Stable-Baselines3"):
        collect("CartPole-v1", f"sb3:{text}", 10, tmp_path / "x.hdf5")


def test_classes_from_outside_are_refused(tmp_path):
    from stable_baselines3.common.torch_layers import FlattenExtractor
    from stable_baselines3.dqn.policies import DQNPolicy

    class Extractor(FlattenExtractor):
        pass

    class Custom(DQNPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    env = Spaces(5, DISCRETE)
    arguments = {"features_extractor_class": Extractor}
    save(tmp_path / "a.zip", "DQN", env, policy_kwargs=arguments, buffer_size=10)
    refused = r"a\.zip: policy argument features_extractor_class = .* cannot be rebuilt"
    with pytest.raises(InputError, match=refused):
        load_sb3(tmp_path / "a.zip", env)

    save(tmp_path / "b.zip", "DQN", env, policy=Custom, buffer_size=10)
    with pytest.raises(InputError, match=r"b\.zip: the policy's class, of .*, is not one of"):
        load_sb3(tmp_path / "b.zip", env)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PPO", {}),
        ("PPO", {"use_sde": True}),
        ("SAC", SMALL_BUFFER),
        ("SAC", {**SMALL_BUFFER, "use_sde": True}),
    ],
)
def test_stochastic_policies_draw_around_the_deterministic_action(tmp_path, name, options):
    path = tmp_path / "m.zip"
    env = Spaces(5, CONTINUOUS)
    save(path, name, env, **options)
    obs = np.random.default_rng(0).standard_normal((1, 5)).astype(np.float32)
    many = np.repeat(obs, 4000, axis=0)
    act = load_sb3(path, env, stochastic=True)

    # Draws come from the generator alone; PyTorch's global one is left as it was.
    global_state = torch.get_rng_state()
    drawn = act(many, np.random.default_rng(3))
    assert torch.equal(torch.get_rng_state(), global_state)
    assert np.array_equal(act(many, np.random.default_rng(3)), drawn)
    assert not np.array_equal(act(many, np.random.default_rng(4)), drawn)

    assert (np.abs(drawn) <= 2).all()
    if not options.get("use_sde"):
        # With it the spread depends on features, and clipping biases the mean.
        assert drawn.std(0).min() > 0.3
    calm = acts(path, env, obs)[0]
    assert (np.abs(np.median(drawn, axis=0) - calm) < 0.1).all()


def test_a_real_policy_is_as_good_as_it_was(shared_data, tmp_path):
    zip_path = shared_data / "policies" / "dqn" / "CartPole-v1.zip"
    path = collect("CartPole-v1", f"sb3:{zip_path}", 2000, tmp_path / "x.hdf5", epsilon=0.3)
    arrays, attributes = read(path)
    assert len(arrays["rewards"]) == 2000
    assert attributes["policy"] == "sb3:CartPole-v1.zip"
    assert attributes["policy_sha256"] == hashlib.sha256(Path(zip_path).read_bytes()).hexdigest()
    assert attributes["n_actions"] == 2

    # Random play falls after 22 steps; this policy stands for 500, and for a good part of that at
    # epsilon 0.3.
    assert load_dataset(path).episode_returns().mean() > 60
    path = collect("CartPole-v1", f"sb3:dqn:{zip_path}", 1000, tmp_path / "y.hdf5")
    assert load_dataset(path).episode_returns().tolist() == [500.0, 500.0]
