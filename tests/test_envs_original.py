"""D4RL's original environments, with stand-ins for the packages gym and d4rl."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helpers.experiments import main_program
from rlop.agents import BC, CQL

import rlop
from rlop.data import Dataset, normalized_score
from rlop.envs.make import make_env
from rlop.envs.original import make_original
from rlop.training.evaluate import make_evaluator
from rlop.types import InputError

LIMIT = 5


class Box:
    """OpenAI Gym's, which Gymnasium does not know."""

    def __init__(self, low, high, n):
        self.low, self.high = np.full(n, low, np.float32), np.full(n, high, np.float32)
        self.shape, self.dtype = (n,), np.dtype(np.float32)


class Discrete:
    n = 4


class Line:
    """A walk on a line: the reward is the first action; beyond 3 the episode ends."""

    observation_space = Box(-np.inf, np.inf, 2)
    action_space = Box(-1, 1, 1)
    spec = SimpleNamespace(max_episode_steps=LIMIT)
    keeps_limit = True
    seeds: tuple = ()

    def seed(self, seed):
        self.seeds = (*self.seeds, seed)
        return [seed]

    def reset(self):
        self.x, self.steps = 0.0, 0
        return np.array([self.x, 1.0])

    def step(self, action):
        assert action.shape == (1,)
        self.x += float(action[0])
        self.steps += 1
        done, info = self.x > 3, {}
        if self.keeps_limit and self.steps >= LIMIT:
            info["TimeLimit.truncated"] = not done
            done = True
        return np.array([self.x, 1.0]), float(action[0]), done, info

    def get_normalized_score(self, total):
        return (total - 1) / 4

    def close(self):
        pass


@pytest.fixture
def original(monkeypatch):
    """The environment that gym.make returns."""
    env = Line()
    gym, d4rl = ModuleType("gym"), ModuleType("d4rl")

    def make(name):
        if name != "hopper-medium-v2":
            raise ValueError(f"No registered env\nwith id: {name}")
        return env

    gym.make = make
    monkeypatch.setitem(sys.modules, "gym", gym)
    monkeypatch.setitem(sys.modules, "d4rl", d4rl)
    return env


def play(env, action):
    """Play one action until an episode ends; return its length, and how it ended."""
    env.reset()
    for steps in range(1, 100):
        _, _, terminated, truncated, _ = env.step(np.float32([action]))
        if terminated or truncated:
            return steps, terminated, truncated
    raise AssertionError("never ends")


@pytest.mark.parametrize("keeps_limit", [True, False])
def test_episodes_end_as_in_gymnasium(original, keeps_limit):
    original.keeps_limit = keeps_limit
    env = make_original("d4rl:hopper-medium-v2")
    assert play(env, 1.0) == (4, True, False)
    assert play(env, 0.1) == (LIMIT, False, True)
    # An end of the task in the very last step is no time-out.
    assert play(env, 0.61) == (LIMIT, True, False)


def test_spaces_seeds_and_dtypes(original):
    env = make_original("d4rl:hopper-medium-v2")
    assert env.observation_space.shape == (2,)
    assert env.action_space.low.tolist() == [-1]
    obs, info = env.reset(seed=7)
    assert original.seeds == (7,)
    assert obs.dtype == np.float32
    assert obs.tolist() == [0, 1]
    assert info == {}
    env.reset()
    assert original.seeds == (7,)

    original.action_space = Discrete()
    assert make_original("d4rl:hopper-medium-v2").action_space.n == 4
    original.action_space = SimpleNamespace()
    with pytest.raises(InputError, match="space SimpleNamespace, expected Box or Discrete"):
        make_original("d4rl:hopper-medium-v2")
    env.close()


def test_what_is_missing_is_one_line_with_the_page(original, monkeypatch):
    with pytest.raises(InputError, match=r"No registered env with id: x.*; see docs/d4rl\.md$"):
        make_original("d4rl:x")

    monkeypatch.setitem(sys.modules, "d4rl", None)
    message = r"^env_id 'd4rl:hopper-medium-v2': no original environment of D4RL \(.*; see docs/d4"
    with pytest.raises(InputError, match=message) as error:
        make_original("d4rl:hopper-medium-v2")
    assert "\n" not in str(error.value)


# ---- evaluation


def test_scores_there_are_d4rls(steps, original):
    agent = BC(steps.spec, seeds=2, hidden=(6,), batch_size=8)
    options = {"reference": "d4rl:walker2d-medium-v2"}
    evaluator = make_evaluator(agent, "d4rl:hopper-medium-v2", {}, 3, **options)
    scores = evaluator(agent)
    assert set(scores) == {"eval/return", "eval/length", "eval/d4rl_score"}
    expected = normalized_score(scores["eval/return"], "hopper-medium-v2")
    np.testing.assert_array_equal(scores["eval/d4rl_score"], expected)
    evaluator.close()

    for kwargs in ({"layout": "d4rl"}, {"size": 3}):
        with pytest.raises(InputError, match=r"(layout|size): D4RL's original takes no arguments"):
            make_env("d4rl:hopper-medium-v2", **kwargs)


def test_without_d4rl_training_says_where_to_read(steps, monkeypatch):
    monkeypatch.setitem(sys.modules, "gym", None)
    agent = BC(steps.spec, seeds=1, hidden=(6,), batch_size=8)
    with pytest.raises(InputError, match=r"see docs/d4rl\.md; eval_episodes: 0 trains without"):
        make_evaluator(agent, "d4rl:hopper-medium-v2", {}, 3)


# ---- scripts/d4rl_scores.py


@pytest.fixture
def steps():
    """Random transitions with the spaces of `Line`."""
    rng = np.random.default_rng(0)
    end = np.arange(60) % 6 == 5
    obs = rng.normal(size=(61, 2)).astype(np.float32)
    action = rng.uniform(-1, 1, (60, 1)).astype(np.float32)
    return Dataset.from_arrays(obs[:-1], action, np.ones(60), end, end & False, obs[1:])


@pytest.mark.parametrize("agent_class", [BC, CQL])
def test_the_script_plays_the_agents_actions(
    agent_class, steps, original, tmp_path, monkeypatch, capsys
):
    agent = agent_class(steps.spec, seeds=2, hidden=(6, 5), batch_size=8)
    rlop.train(agent, steps, steps=2, logdir=tmp_path, log_every=1)
    out = tmp_path / "policy.npz"
    checkpoint = tmp_path / "checkpoint.pt"
    assert main_program(monkeypatch, "d4rl_scores.py", "export", checkpoint, out) == 0
    argv = ["play", out, "hopper-medium-v2", "--episodes", "3", "--seed", "4"]
    assert main_program(monkeypatch, "d4rl_scores.py", *argv) == 0
    assert original.seeds == (4000, 4001)

    import torch

    env = make_original("d4rl:hopper-medium-v2")
    lines = capsys.readouterr().out.splitlines()[-2:]
    for run, line in enumerate(lines):
        obs, _ = env.reset()
        total, over = 0.0, False
        while not over:
            seen = torch.from_numpy(obs).expand(2, 1, 2)
            obs, reward, terminated, truncated, _ = env.step(agent.act(seen)[run, 0].numpy())
            total += reward
            over = terminated or truncated
        printed, _, score = line.partition("return ")[2].partition(" ")
        assert float(printed) == pytest.approx(total, rel=1e-4, abs=1e-5)
        assert float(score.split()[-1]) == pytest.approx(25 * (total - 1), abs=0.006)


def test_the_script_refuses_in_one_line(steps, original, tmp_path, monkeypatch, capsys):
    agent = BC(steps.spec, seeds=1, hidden=(6,), batch_size=8, layer_norm=True)
    rlop.train(agent, steps, steps=1, logdir=tmp_path, log_every=1)
    argv = ["export", tmp_path / "checkpoint.pt", tmp_path / "policy.npz"]
    assert main_program(monkeypatch, "d4rl_scores.py", *argv) == 2
    assert "expected continuous BC or CQL whose policy is a plain MLP" in capsys.readouterr().err

    argv = ["play", tmp_path / "policy.npz", "hopper-medium-v2"]
    assert "policy.npz: not written by export" in main_program(monkeypatch, "d4rl_scores.py", *argv)
    monkeypatch.setitem(sys.modules, "d4rl", None)
    assert "see docs/d4rl.md" in main_program(monkeypatch, "d4rl_scores.py", *argv)
