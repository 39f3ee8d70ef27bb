"""Policies: observations in, actions of the environment out; copies; who may have which."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from helpers import echo
from helpers.agents import ROWS
from rlop.agents import BC, CQL, DQN, NeuralTD

from rlop.deploy.spaces import recorded_action_space, recorded_obs_space
from rlop.types import InputError, Spec

SPEC = Spec((4,), 3)
OBS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def _echo():
    echo.register()
    yield
    del gymnasium.registry[echo.ENV_ID]


def tensors(obs):
    """Return observations as tensors."""
    if isinstance(obs, dict):
        return {key: tensors(part) for key, part in obs.items() if key != "unread"}
    return torch.as_tensor(obs)


@pytest.mark.parametrize(("kind", "cls"), echo.PAIRS, ids=echo.IDS)
def test_one_observation_a_batch_and_tensors_get_the_environments_actions(kind, cls):
    agent, _ = echo.agent_of(kind, cls)
    policy = agent.policy(1)
    shown = echo.observations(kind, 8)
    env = echo.Echo(kind)
    assert policy.action_space == env.action_space

    singles = [policy(obs) for obs in shown]
    for action in singles:
        assert env.action_space.contains(action)
        assert np.asarray(action).dtype == env.action_space.dtype

    batch = echo.stacked(env.observation_space, shown)
    actions = policy(batch)
    assert actions.shape == (8, *env.action_space.shape)
    np.testing.assert_allclose(actions, singles, atol=1e-5)

    from_torch = policy(tensors(batch))
    assert isinstance(from_torch, torch.Tensor)
    assert np.array_equal(from_torch.numpy(), actions)
    one = policy(tensors(shown[0]))
    assert isinstance(one, torch.Tensor)
    assert one.shape == env.action_space.shape


def test_a_run_acts_as_it_does_among_others():
    agent = DQN(SPEC, hidden=(16,), seeds=3)
    among = agent.act(torch.from_numpy(OBS).expand(3, -1, -1))
    for run, label in enumerate(agent.runs.labels):
        assert np.array_equal(agent.policy(label)(OBS), among[run])
        assert np.array_equal(agent.predict(OBS, run), among[run])


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_agent_splits_into_its_runs(row, tiny, moves):
    data = moves if row.continuous else tiny
    agent = row.make(data, seeds=2, variants=row.variants)
    obs = torch.from_numpy(data.obs[:20]).expand(len(agent.runs), -1, -1)

    def answer(agent, obs):
        return agent.values(obs) if isinstance(agent, NeuralTD) else agent.act(obs)

    expected = answer(agent, obs)
    for run in (0, len(agent.runs) - 1):
        alone = agent.one_run(run)
        assert len(alone.runs) == 1
        assert alone.runs.labels[0] == agent.runs.labels[run]
        torch.testing.assert_close(answer(alone, obs[:1])[0], expected[run], rtol=1e-4, atol=1e-5)


def test_a_policy_is_a_copy_that_training_does_not_move():
    agent, data = echo.agent_of("normalized", DQN)
    policy, before = agent.policy(0), agent.policy(0).q_values(OBS)
    with torch.no_grad():
        agent.online.head.bias.add_(1.0)
    assert np.array_equal(policy.q_values(OBS), before)
    assert not np.array_equal(agent.policy(0).q_values(OBS), before)
    assert data.spec.obs_normalizer is not None


def test_values_and_features_are_read_in_the_environments_units():
    agent, data = echo.agent_of("normalized", DQN)
    policy = agent.policy(1)
    mean, divisor = np.array(data.spec.obs_normalizer, np.float32)
    seen = torch.from_numpy((OBS - mean) / divisor).expand(2, -1, -1)
    np.testing.assert_allclose(policy.q_values(OBS), agent.q_values(seen)[1], rtol=1e-4, atol=1e-6)
    assert policy.q_values(OBS[0]).shape == (3,)
    features = agent.online.features(seen)[1].detach()
    np.testing.assert_allclose(policy.features(OBS), features, rtol=1e-4, atol=1e-6)

    critic, _ = echo.agent_of("bounds", CQL)
    assert critic.policy(0).features(OBS).shape == (50, 2, 16)  # of two critics
    assert critic.policy(0).features(OBS[0]).shape == (2, 16)
    with pytest.raises(InputError, match="q_values: CQL has no value of each action"):
        critic.policy(0).q_values(OBS)


def test_exploration_is_as_often_as_asked_and_repeats_with_its_copy():
    agent = DQN(SPEC, hidden=(16,))
    greedy, policy = agent.policy(), agent.policy(epsilon=0.5)
    many = np.repeat(OBS[:1], 4000, 0)
    twin = copy.deepcopy(policy)
    drawn = policy(many)
    assert np.array_equal(twin(many), drawn)
    # A random action is the greedy one in a third of the cases: 1/3 of all differ.
    assert abs((drawn != greedy(many)).mean() - 1 / 3) < 0.04

    assert np.array_equal(policy.predict(many)[0], greedy(many))
    assert not np.array_equal(policy.predict(many, deterministic=False)[0], greedy(many))
    assert policy.predict(OBS[0], state="kept")[1] == "kept"


def test_actions_without_bounds_are_not_drawn_at_random():
    agent = BC(Spec((4,), None, (2,)), hidden=(16,))
    space = Box(-np.inf, np.inf, (2,))
    assert agent.policy(action_space=space)(OBS).shape == (50, 2)
    with pytest.raises(InputError, match=r"epsilon = 0.1: action space .* has no bounds"):
        agent.policy(action_space=space, epsilon=0.1)


# ---- copies


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_policies_are_copied_pickled_and_sent_to_other_processes():
    agent, _ = echo.agent_of("bounds", CQL, regularizers={"dr3": [0.0, 0.1]})
    policy = agent.policy(3)
    expected = policy(OBS)
    sent = pickle.dumps(policy)
    for twin in (copy.copy(policy), copy.deepcopy(policy), pickle.loads(sent)):
        assert np.array_equal(twin(OBS), expected)

    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert np.array_equal(pool.submit(policy, OBS).result(), expected)


def test_a_pickled_policy_holds_one_run_and_nothing_to_train_with():
    options = {"hidden": (128, 128), "regularizers": {"dr3": 0.1}}
    one = pickle.dumps(DQN(SPEC, **options).policy())
    of_many = pickle.dumps(DQN(SPEC, seeds=8, **options).policy(5))
    assert len(of_many) < 1.1 * len(one)
    assert len(one) < 4 * (4 * 128 + 128 * 128 + 3 * 128 + 400) + 20_000


# ---- what is refused, and asked


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros(5), r"obs: shape \(5,\), expected \(4,\), or a batch \(n, 4\)"),
        (np.zeros((2, 3, 4)), r"obs: shape \(2, 3, 4\)"),
        ([[1.0], [2.0, 3.0]], "obs: "),
        ("text", "obs: .*numbers, expected float32"),
        ({"a": 1}, "obs: object numbers"),
    ],
)
def test_other_observations_are_named(obs, message):
    with pytest.raises(InputError, match=message):
        DQN(SPEC, hidden=(8,)).policy()(obs)


def test_bytes_are_not_made_of_fractions_nor_numbers_of_bytes():
    pixels = DQN(Spec((10, 10, 2), 3, obs_dtype="uint8"), hidden=(8,)).policy()
    image = np.full((10, 10, 2), 200)
    assert pixels(image) == pixels(image.astype(np.uint8))
    for wrong in (image / 255, image + 100):
        with pytest.raises(InputError, match=r"obs: .*numbers, expected uint8"):
            pixels(wrong)

    numbers = DQN(SPEC, hidden=(8,)).policy()
    steps = np.array([[1, 2, 3, 200]])
    assert np.array_equal(
        numbers.q_values(steps.astype(np.uint8)), numbers.q_values(steps.astype(np.float32))
    )


def test_parts_of_a_dictionary_are_named():
    agent, _ = echo.agent_of("dictionary", DQN)
    policy = agent.policy(0)
    obs = echo.observations("dictionary", 1)[0]
    for wrong, message in (
        ({"arm": obs["arm"]}, r"obs: expected a part 'bits', found \['arm'\]"),
        ({**obs, "arm": 3}, "obs: found int, expected a dictionary with 'arm/mode'"),
        ({**obs, "bits": np.zeros((1, 2), int)}, "parts of different numbers of observations"),
        ({**obs, "arm": {**obs["arm"], "mode": 2}}, r"obs: arm/mode: 2 to 2, expected Discrete\(2"),
    ):
        with pytest.raises(InputError, match=message):
            policy(wrong)


@pytest.mark.parametrize("run", [2, -1, "seed=4", 1.5, True, None, np.zeros((9, 9))])
def test_unknown_runs_are_refused_with_those_there_are(run):
    with pytest.raises(InputError, match=r"^run = [^\n]*: expected 0 to 1, or a label.*seed="):
        DQN(SPEC, hidden=(8,), seeds=2).policy(run)


def test_spaces_that_nothing_says_are_asked_about():
    unbounded = Spec((4,), None, (2,))
    with pytest.raises(InputError, match=r"highest actions; give env, or action_space$"):
        recorded_action_space(unbounded)
    parts = Spec((4,), 3, obs_keys=("a", "b"), env_id="test/Elsewhere-v0")
    with pytest.raises(InputError, match=r"dictionaries of \['a', 'b'\].*'test/Elsewhere-v0' cann"):
        recorded_obs_space(parts)

    given = Dict({"a": Box(-1, 1, (3,)), "b": Box(-1, 1, (1,))})
    policy = DQN(parts, hidden=(8,)).policy(observation_space=given)
    assert policy({"a": np.zeros(3), "b": np.zeros(1)}) in range(3)


def test_the_data_say_the_actions_where_the_environment_is_not_installed(caplog):
    caplog.set_level("INFO")
    spec = Spec((4,), None, (4,), env_id="test/Elsewhere-v0")
    bounds = {"action_low": (0.0,) * 4, "action_high": (1.0, 2.0, 3.0, 4.0)}
    policy = BC(replace(spec, **bounds, action_layout=(2, 2)), hidden=(8,)).policy()
    high = np.array([[1, 2], [3, 4]], np.float32)
    assert policy.action_space == Box(np.zeros((2, 2), np.float32), high)
    assert policy(OBS).shape == (50, 2, 2)
    assert "test/Elsewhere-v0 cannot be made here: its spaces are those that the" in caplog.text
    assert policy.action_space.contains(policy(OBS[0]))
    discrete = DQN(replace(SPEC, action_start=-1), hidden=(8,)).policy()
    assert discrete.action_space == Discrete(3, start=-1)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16", "float32", "float64"])
def test_observations_are_those_of_the_data_where_no_environment_is_known(dtype):
    space = recorded_obs_space(Spec((2, 3), 3, obs_dtype=dtype))
    assert space.shape == (2, 3)
    assert space.dtype == dtype


@pytest.mark.parametrize("kind", ["id", "object", "function"])
def test_an_environment_can_be_given_for_its_spaces(kind):
    agent = BC(Spec((3,), None, (1,)), hidden=(8,))
    with gymnasium.make("Pendulum-v1") as env:
        ways = {
            "id": "Pendulum-v1",
            "object": env,
            "function": lambda: gymnasium.make("Pendulum-v1"),
        }
        with pytest.raises(InputError, match="actions from -2 to 2, and nothing says in which un"):
            agent.policy(env=ways[kind])
        known = BC(replace(agent.spec, action_low=(-2.0,), action_high=(2.0,)), hidden=(8,))
        assert known.policy(env=ways[kind]).action_space == env.action_space


def test_an_agent_with_tensors_of_its_own_is_told_to_select_them():
    class Shifted(DQN):
        def act(self, obs):
            return super().act(obs) + self.shift

    agent = Shifted(SPEC, hidden=(8,), seeds=2)
    agent.shift = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(
        InputError, match=r"Shifted.act: actions \(2, 1\), expected \(1, 1\).*one_ru"
    ):
        agent.policy(0)


# ---- other people's tools


def test_stable_baselines3_evaluates_a_policy_as_it_is():
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    from stable_baselines3.common.monitor import Monitor

    agent = DQN(Spec((4,), 2), hidden=(16,), seeds=3)
    policy = agent.policy(2)
    env = Monitor(gymnasium.make("CartPole-v1"))
    env.reset(seed=0)
    rewards, lengths = evaluation.evaluate_policy(
        policy, env, n_eval_episodes=3, return_episode_rewards=True
    )
    assert rewards == lengths
    assert len(rewards) == 3
    env.close()
