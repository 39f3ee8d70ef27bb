"""Scores of policies: over episodes, and exactly on a known MDP."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from rlop.agents import DQN

from rlop.data.adapter import adapter_of
from rlop.envs import TabularEnv, chain, optimal_q, policy_return_undiscounted
from rlop.training.evaluate import LONGEST, Evaluator, make_evaluator
from rlop.training.exact import TabularEvaluator
from rlop.types import InputError, Spec


class Scripted:
    """A policy given as one function of the observations per run."""

    device = torch.device("cpu")

    def __init__(self, *policies):
        self.policies = policies

    def one_run(self, run):
        return Scripted(self.policies[run])

    def act(self, obs):
        actions = [policy(run_obs) for policy, run_obs in zip(self.policies, obs, strict=True)]
        return torch.stack(actions)


def balance(obs):
    """A good CartPole policy."""
    return (obs[:, 2] + 0.3 * obs[:, 3] > 0).long()


def left(obs):
    return torch.zeros(len(obs), dtype=torch.long)


def right(obs):
    return torch.ones(len(obs), dtype=torch.long)


class Recorder:
    """A policy that keeps the observations it acts on."""

    def __init__(self, policy=right):
        self.policy = policy
        self.seen = []

    def __call__(self, obs):
        self.seen.append(obs.clone())
        return self.policy(obs)


@pytest.fixture
def endless():
    """Register an environment without a time limit that never ends."""

    class Endless(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(3, np.float32), {}

        def step(self, action):
            return np.zeros(3, np.float32), 1.0, False, False, {}

    gymnasium.register("test/Endless-v0", Endless)
    yield
    del gymnasium.registry["test/Endless-v0"]


# ---- episodes


def test_returns_of_a_deterministic_walk_by_hand():
    evaluator = Evaluator("rlop/Chain-v0", [0], episodes=5, env_kwargs={"slip": 0.0})
    returns, lengths = evaluator.rollout(Scripted(right))
    assert returns.tolist() == [[1.0] * 5]
    assert lengths.tolist() == [[5] * 5]


def test_a_time_limit_ends_an_episode_without_its_reward():
    evaluator = Evaluator("rlop/Chain-v0", [0, 1], episodes=3)
    returns, lengths = evaluator.rollout(Scripted(left, right))
    assert returns.tolist() == [[0.0] * 3, [1.0] * 3]
    assert lengths.tolist() == [[20] * 3, [5] * 3]


def steps_of_one_episode(env, seed):
    env.reset(seed=seed)
    steps, over = 0, False
    while not over:
        _, _, terminated, truncated, _ = env.step(1)
        over = terminated or truncated
        steps += 1
    return steps


def test_many_environments_score_as_single_ones_do():
    returns, lengths = Evaluator("CartPole-v1", [3], episodes=200).rollout(Scripted(right))
    assert np.array_equal(returns, lengths)
    env = gymnasium.make("CartPole-v1")
    singles = [steps_of_one_episode(env, seed) for seed in range(200)]
    standard_error = np.hypot(np.std(singles), returns.std()) / 200**0.5
    assert abs(returns.mean() - np.mean(singles)) < 4 * standard_error + 1e-9


def test_a_runs_score_does_not_depend_on_its_neighbors():
    alone = Evaluator("CartPole-v1", [7], episodes=10)(Scripted(balance))
    among = Evaluator("CartPole-v1", [5, 7], episodes=10)(Scripted(right, balance))
    assert alone["eval/return"][0] == among["eval/return"][1]
    assert alone["eval/return"][0] > 400


def test_every_environment_plays_its_own_number_of_episodes():
    evaluator = Evaluator("CartPole-v1", [0], episodes=7, max_envs=3)
    returns, _ = evaluator.rollout(Scripted(right))
    assert returns.shape == (1, 7)
    assert evaluator.quota.tolist() == [3, 2, 2]

    # The same start states come back.
    again, _ = evaluator.rollout(Scripted(right))
    assert sorted(again[0]) == sorted(returns[0])


def test_start_states_of_neighboring_seeds_are_disjoint():
    # Environment i of a run begins i seeds after the run's: with 20 of them runs must be far apart.
    seeds = [0, 1, 2]
    policies = [Recorder() for _ in seeds]
    Evaluator("CartPole-v1", seeds, episodes=20).rollout(Scripted(*policies))
    starts = [tuple(state) for policy in policies for state in policy.seen[0].tolist()]
    assert len(set(starts)) == len(starts) == 60


def test_every_run_explores_by_its_own_random_stream():
    together = Evaluator("rlop/Chain-v0", [0, 1], episodes=20, epsilon=0.7)
    returns, lengths = together.rollout(Scripted(right, right))
    assert not np.array_equal(lengths[0], lengths[1])
    for run, seed in enumerate((0, 1)):
        alone = Evaluator("rlop/Chain-v0", [seed], episodes=20, epsilon=0.7)
        run_returns, run_lengths = alone.rollout(Scripted(right))
        assert np.array_equal(run_returns[0], returns[run])
        assert np.array_equal(run_lengths[0], lengths[run])


def test_a_policy_that_only_explores_scores_less():
    # The chain pays at its right end only, which a random walk often does not reach in time.
    policy = Scripted(right)
    calm = Evaluator("rlop/Chain-v0", [0], episodes=50, epsilon=0.0)(policy)
    wild = Evaluator("rlop/Chain-v0", [0], episodes=50, epsilon=1.0)(policy)
    assert calm["eval/return"] == 1.0
    assert wild["eval/return"] < 0.9


def test_observations_are_normalized_as_the_data_were():
    spec = Spec((4,), 2, obs_normalizer=((1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 2.0)))
    normalized, plain = Recorder(), Recorder()
    Evaluator("CartPole-v1", [0], episodes=2, spec=spec).rollout(Scripted(normalized))
    Evaluator("CartPole-v1", [0], episodes=2).rollout(Scripted(plain))
    mean, scale = torch.tensor(spec.obs_normalizer)
    torch.testing.assert_close(normalized.seen[0], (plain.seen[0] - mean) / scale)


def test_returns_are_normalized_where_reference_scores_exist():
    plain = Evaluator("CartPole-v1", [0], episodes=2)(Scripted(right))
    assert "eval/normalized_score" not in plain

    reference = "d4rl:hopper-medium-v2"
    scored = Evaluator("CartPole-v1", [0], episodes=2, reference=reference)(Scripted(right))
    low, high = -20.272305, 3234.3
    expected = 100 * (scored["eval/return"] - low) / (high - low)
    np.testing.assert_allclose(scored["eval/normalized_score"], expected, rtol=1e-6)


# ---- environments that need a word


def test_an_endless_episode_is_cut_with_a_message(endless, monkeypatch, caplog):
    monkeypatch.setattr("rlop.training.evaluate.LONGEST", 12)
    scores = Evaluator("test/Endless-v0", [0, 1], episodes=3)(Scripted(left, right))
    assert scores["eval/length"].tolist() == [12, 12]
    assert "an episode was cut after 12 steps" in caplog.text
    assert "max_episode_steps" in caplog.text


def test_a_time_limit_of_the_user_is_kept(endless, caplog):
    limit = {"max_episode_steps": 7}
    scores = Evaluator("test/Endless-v0", [0], episodes=2, env_kwargs=limit)(Scripted(left))
    assert scores["eval/length"].tolist() == [7]
    assert caplog.text == ""
    assert LONGEST > 7


def test_actions_whose_units_nothing_says_are_asked_about():
    class Half(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,))
        action_space = gymnasium.spaces.Box(0, 1, (1,))

    gymnasium.register("test/Half-v0", Half, max_episode_steps=5)
    try:
        with pytest.raises(InputError, match=r"actions from 0 to 1, and nothing says.*action_low"):
            Evaluator("test/Half-v0", [0], spec=Spec((3,), action_shape=(1,)))
    finally:
        del gymnasium.registry["test/Half-v0"]


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPole-v1", {"episodes": 0}, "eval_episodes = 0"),
        ("CartPole-v1", {"epsilon": 2.0}, "eval_epsilon = 2.0"),
        ("CartPoll-v1", {}, "did you mean 'CartPole-v1'"),
        (3, {}, "env: found int, expected a Gymnasium id, an environment, or a function"),
    ],
)
def test_impossible_evaluations_are_refused(env_id, options, message):
    with pytest.raises(InputError, match=message):
        Evaluator(env_id, [0], **options)


def test_a_refusal_names_the_way_to_train_without_evaluation():
    agent = DQN(Spec((4,), 3), hidden=(8,))
    for env_id in ("CartPole-v1", "CartPoll-v1", "rlop/Chain-v0"):
        with pytest.raises(InputError, match="eval_episodes: 0 trains without evaluation"):
            make_evaluator(agent, env_id, {}, 5)


def test_evaluation_without_an_environment_is_off_and_says_so(caplog):
    caplog.set_level("INFO")
    agent = DQN(Spec((4,), 3), hidden=(8,))
    assert make_evaluator(agent, "CartPole-v1", {}, 0) is None
    assert caplog.text == ""
    assert make_evaluator(agent, None, {}, 5) is None
    assert "no evaluation; name one with env: ID" in caplog.text


def test_copies_of_an_evaluator_play_the_same_episodes():
    evaluator = Evaluator("CartPole-v1", [3], episodes=4, max_envs=2)
    expected = evaluator(Scripted(right))
    for twin in (pickle.loads(pickle.dumps(evaluator)), copy.deepcopy(evaluator)):
        assert twin(Scripted(right)) == expected
        assert twin.envs[0] is not evaluator.envs[0]


# ---- exact scores


class KnownValues:
    """An agent that has these action values."""

    device = torch.device("cpu")

    def __init__(self, *tables):
        self.tables = tables

    def one_run(self, run):
        return KnownValues(self.tables[run])

    def act(self, obs):
        return self.q_values(obs).argmax(-1)

    def q_values(self, obs):
        assert obs.shape[0] == len(self.tables)
        return torch.from_numpy(np.stack(self.tables))


def exact_evaluator(mdp, gammas):
    spec = Spec(mdp.observations.shape[1:], mdp.n_actions)
    adapter = adapter_of(spec, TabularEnv(mdp))
    return TabularEvaluator(mdp, gammas, horizon=20, adapter=adapter)


def test_exact_scores_of_the_optimal_q():
    mdp = chain(6)
    best = optimal_q(mdp, 0.9)
    agent = KnownValues(best, best + 0.1)
    scores = exact_evaluator(mdp, [0.9, 0.9])(agent)
    assert scores["eval/return"].tolist() == [1.0, 1.0]

    live = best[:5]
    error = 0.1 / (live.max() - live.min())
    np.testing.assert_allclose(scores["eval/q_error"], [0, error], atol=1e-9)
    np.testing.assert_allclose(scores["eval/q_error_max"], [0, error], atol=1e-9)
    assert policy_return_undiscounted(mdp, np.full((6, 2), 0.5), 20) < 1


@pytest.mark.parametrize("gammas", [[0.5, 0.9], [0.9, 0.5]])
def test_the_optimal_q_is_that_of_each_runs_own_gamma(gammas):
    mdp = chain(6)
    agent = KnownValues(*[optimal_q(mdp, gamma) for gamma in gammas])
    own = exact_evaluator(mdp, gammas)(agent)
    swapped = exact_evaluator(mdp, gammas[::-1])(agent)
    np.testing.assert_allclose(own["eval/q_error"], 0, atol=1e-9)
    assert (swapped["eval/q_error"] > 0.01).all()
