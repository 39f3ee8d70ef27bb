"""Where `backup: behavior` draws the next action from: counts, a clone, or the known policy."""

import sys
from types import ModuleType

import numpy as np
import pytest
from rlop.agents import DQN

import rlop
from rlop.data.dataset import Dataset
from rlop.types import InputError

SMALL = {"hidden": (8,), "batch_size": 8, "gamma": 0.9}
UNIQUE = "gridworld?size=4&observation=random&steps=300&epsilon=0.2,0.9&noise=0.1"


def prepared(data, source, seed=0, **options) -> Dataset:
    """The rows that DQN trains on."""
    agent = DQN(data.spec, seeds=[seed], backup="behavior", behavior=source, **SMALL, **options)
    return agent.prepare(data)


def by_sign(n=400, seed=0) -> Dataset:
    """Two actions, of which the sign of the first of three numbers decides, nine times in ten."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(n + 1, 3)).astype(np.float32)
    action = (obs[:-1, 0] > 0) ^ (rng.random(n) < 0.1)
    ends = np.arange(n) % 20 == 19
    return Dataset.from_arrays(
        obs[:-1],
        action.astype(np.int64),
        np.zeros(n),
        ends & (np.arange(n) % 40 == 39),
        ends,
        obs[1:],
        n_actions=2,
    )


def test_a_clone_acts_at_observations_that_the_data_never_repeat():
    data = by_sign()
    rows = prepared(data, {"bc": {"steps": 300, "hidden": (16,), "lr": 1e-2}})
    policy = rows.extra["next_policy"]
    assert len(rows) == len(data)
    np.testing.assert_allclose(policy.sum(1), 1, atol=1e-5)

    clear = (np.abs(data.next_obs[:, 0]) > 0.7) & ~data.terminated
    likelier = policy.argmax(1) == (data.next_obs[:, 0] > 0)
    assert likelier[clear].mean() > 0.95
    assert 0.02 < policy[clear].min(1).mean() < 0.3  # one action in ten is the other one
    assert (policy[data.terminated] == 0.5).all()


def test_a_clone_has_a_seed_of_its_own():
    data = by_sign(120)

    def cloned(seed, run=0):
        source = {"bc": {"steps": 40, "seed": seed}}
        return prepared(data, source, run).extra["next_policy"]

    np.testing.assert_array_equal(cloned(1), cloned(1, run=5))
    assert not np.array_equal(cloned(1), cloned(2))


def test_the_clone_that_counts_is_the_best_on_held_out_episodes():
    """Without any rule to learn, more steps only fit noise: the clone stays near uniform."""
    rng = np.random.default_rng(3)
    ends = np.arange(60) % 6 == 5
    obs = rng.normal(size=(61, 30)).astype(np.float32)
    columns = (obs[:-1], rng.integers(2, size=60), np.zeros(60), ends & False, ends, obs[1:])
    data = Dataset.from_arrays(*columns, n_actions=2)

    def sureness(held_out):
        source = {"bc": {"steps": 400, "held_out": held_out}}
        return prepared(data, source).extra["next_policy"].max(1).mean()

    assert sureness(0.3) < sureness(0.0) - 0.2


def test_one_episode_is_cloned_as_it_is():
    data = rlop.load_dataset("chain?steps=40&epsilon=1.0&max_episode_steps=100").subset(range(12))
    assert prepared(data, {"bc": {"steps": 20}}).extra["next_policy"].shape == (12, 2)


def test_the_gridworld_knows_the_policy_of_each_episode():
    data = rlop.load_dataset(UNIQUE)
    policy = prepared(data, "known").extra["next_policy"]
    alive = ~data.terminated
    chance = policy[alive].max(1)
    assert {round(float(value), 3) for value in chance} == {0.84, 0.28}  # 1 - epsilon + epsilon / 5

    # The action that follows has that probability on average.
    goes_on = alive & ~data.end
    taken = policy[:-1][goes_on[:-1], data.action[1:][goes_on[:-1]]]
    expected = (policy[goes_on] ** 2).sum(1).mean()
    assert taken.mean() == pytest.approx(expected, abs=0.05)


def test_noise_makes_every_observation_unique_and_keeps_the_process():
    quiet, noisy = rlop.load_dataset(UNIQUE.replace("0.1", "0.0")), rlop.load_dataset(UNIQUE)
    np.testing.assert_array_equal(quiet.action, noisy.action)
    assert len(np.unique(noisy.obs, axis=0)) == len(noisy)
    assert (noisy.obs - quiet.obs).std() == pytest.approx(0.1, rel=0.1)

    goes_on = np.flatnonzero(~noisy.end)
    np.testing.assert_array_equal(noisy.next_obs[goes_on], noisy.obs[goes_on + 1])


@pytest.fixture
def my_policy(monkeypatch):
    module = ModuleType("my_policy")
    module.uniform = lambda obs: np.full((len(obs), 2), 0.5)
    module.lopsided = lambda obs: np.full((len(obs), 2), 0.9)
    module.broken = lambda obs: obs.nothing
    monkeypatch.setitem(sys.modules, "my_policy", module)


def test_a_function_of_the_users_is_the_known_policy(my_policy):
    rows = prepared(by_sign(40), {"known": {"policy": "my_policy:uniform"}})
    assert (rows.extra["next_policy"] == 0.5).all()
    rlop.train(
        DQN(
            rows.spec,
            backup="behavior",
            behavior={"known": {"policy": "my_policy:uniform"}},
            **SMALL,
        ),
        by_sign(40),
        4,
        progress=False,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"behavior": "bc"}, "behavior: only with backup behavior, found backup = max"),
        ({"backup": "behavior", "behavior": "clone"}, "unknown; one of counts, bc, known"),
        ({"backup": "behavior", "behavior": {"bc": {"step": 1}}}, "did you mean 'steps'"),
        ({"backup": "behavior"}, "needs repeated observations.*use behavior: bc"),
        ({"backup": "behavior", "behavior": "known"}, "no infos/next_policy in the data"),
        (
            {"backup": "behavior", "behavior": {"known": {"policy": "my_policy:lopsided"}}},
            "row 0 sums to 1.8, expected probabilities",
        ),
        (
            {"backup": "behavior", "behavior": {"known": {"policy": "my_policy:broken"}}},
            "behavior.known.policy: my_policy:broken: AttributeError",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_refused_in_one_line(my_policy, options, message):
    data = by_sign(40)
    with pytest.raises(InputError, match=message) as raised:
        DQN(data.spec, **SMALL, **options).prepare(data)
    assert "\n" not in str(raised.value)
