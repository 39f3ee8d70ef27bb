from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from rlop.envs import (
    TabularEnv,
    TabularMDP,
    TabularVectorEnv,
    ascii_map,
    chain,
    epsilon_greedy,
    greedy_policy,
    gridworld,
    occupancy,
    optimal_q,
    policy_q,
    policy_return,
    policy_return_undiscounted,
    state_index,
)
from rlop.envs.stepping import sample_next, successors
from rlop.types import InputError

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def random_mdp(seed: int, s: int = 6, a: int = 3) -> tuple[TabularMDP, np.ndarray]:
    """A random process, some of its transitions impossible and one or two states terminal, and a random policy."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(s, 0.3), (s, a)) * (rng.random((s, a, s)) < 0.7)
    transition[..., 0] += 1e-3
    transition /= transition.sum(-1, keepdims=True)
    terminal = np.arange(s) >= s - rng.integers(1, 3)
    initial = np.where(terminal, 0, rng.random(s))
    mdp = TabularMDP(
        transition,
        rng.normal(size=(s, a, s)),
        terminal,
        initial / initial.sum(),
        rng.normal(size=(s, 2, 2)),
    )
    return mdp, rng.dirichlet(np.ones(a), s)


# Exact values


def test_chain_q_by_hand():
    gamma = 0.9
    q = optimal_q(chain(6), gamma)
    right = [gamma**4, gamma**3, gamma**2, gamma, 1.0, 0.0]
    left = [gamma**5, gamma**5, gamma**4, gamma**3, gamma**2, 0.0]
    np.testing.assert_allclose(q, np.stack([left, right], 1), rtol=0, atol=1e-12)


def test_chain_with_slip_by_hand():
    # Two states: right succeeds with probability 1 - slip / 2, so V = p + (1 - p) gamma V.
    gamma, p = 0.9, 0.9
    v = p / (1 - (1 - p) * gamma)
    q = optimal_q(chain(2, slip=0.2), gamma)
    np.testing.assert_allclose(q[0], [0.1 + 0.9 * gamma * v, v], rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_optimal_q_is_the_q_of_its_greedy_policy_and_no_policy_beats_it(seed, gamma):
    mdp, policy = random_mdp(seed)
    q = optimal_q(mdp, gamma)
    np.testing.assert_allclose(q, policy_q(mdp, greedy_policy(q), gamma), rtol=0, atol=1e-9)
    assert (policy_q(mdp, policy, gamma) <= q + 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.99))
def test_policy_q_satisfies_the_bellman_equation(seed, gamma):
    mdp, policy = random_mdp(seed)
    q = policy_q(mdp, policy, gamma)
    for s in range(mdp.n_states):
        for a in range(mdp.n_actions):
            following = [0.0 if mdp.terminal[n] else policy[n] @ q[n] for n in range(mdp.n_states)]
            backup = mdp.transition[s, a] @ (mdp.reward[s, a] + gamma * np.array(following))
            np.testing.assert_allclose(
                q[s, a], 0.0 if mdp.terminal[s] else backup, rtol=0, atol=1e-10
            )


def test_tolerance_bounds_the_distance_to_q_star():
    mdp = gridworld(6, reward="distance")
    exact = optimal_q(mdp, 0.95)
    for tol in (1.0, 1e-2, 1e-5):
        error = np.abs(optimal_q(mdp, 0.95, tol) - exact).max()
        assert 1e-12 < error <= tol


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_occupancy_weighs_rewards_to_the_return(seed, gamma):
    mdp, policy = random_mdp(seed)
    d = occupancy(mdp, policy, gamma)
    assert d.sum() == pytest.approx(1)
    assert not d[mdp.terminal].any()
    value_of_ones = policy_return(
        TabularMDP(
            mdp.transition, np.ones_like(mdp.reward), mdp.terminal, mdp.initial, mdp.observations
        ),
        policy,
        gamma,
    )
    expected = policy_return(mdp, policy, gamma)
    assert (d * mdp.expected_reward).sum() * value_of_ones == pytest.approx(expected, abs=1e-9)


def test_undiscounted_return_within_a_horizon_by_hand():
    # Coin flips reach the end of a 3-chain in two steps by RR, in three by LRR, in four by LLRR and RLRR.
    coin = np.full((3, 2), 0.5)
    returns = [policy_return_undiscounted(chain(3), coin, h) for h in range(5)]
    np.testing.assert_allclose(returns, [0, 0, 0.25, 0.375, 0.5], rtol=0, atol=1e-15)


def test_policies_by_hand():
    q = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    np.testing.assert_array_equal(greedy_policy(q), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(epsilon_greedy(q, 0.3), [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])


def test_shapes_and_probabilities_are_checked():
    m = chain(3)
    parts = (m.transition, m.reward, m.terminal, m.initial, m.observations)
    wrong = {
        0: m.transition * 2,
        1: m.reward[0],
        2: m.terminal[:2],
        3: np.array([0.0, 0, 1]),
        4: np.zeros(3),
    }
    for i, bad in wrong.items():
        with pytest.raises(ValueError, match="expected"):
            TabularMDP(*(bad if i == j else part for j, part in enumerate(parts)))
    for bad in (np.ones((3, 2)), np.ones((2, 2)) / 2):
        with pytest.raises(ValueError, match="policy"):
            policy_q(m, bad, 0.9)
    for call in (lambda: optimal_q(m, 1.0), lambda: policy_q(m, np.full((3, 2), 0.5), -0.1)):
        with pytest.raises(ValueError, match="gamma"):
            call()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_state_index_inverts_the_table(seed):
    mdp, _ = random_mdp(seed)
    state = np.random.default_rng(seed).integers(mdp.n_states, size=(3, 4))
    np.testing.assert_array_equal(state_index(mdp, mdp.observations[state]), state)
    assert state_index(mdp, mdp.observations[2]) == 2


def test_state_index_refuses_what_it_does_not_know():
    mdp = chain(4)
    with pytest.raises(InputError, match="1 of 2 are of no state"):
        state_index(mdp, np.stack([mdp.observations[0], mdp.observations[1] + 1e-6]))
    with pytest.raises(ValueError, match="expected shape"):
        state_index(mdp, np.zeros((2, 3)))
    blind = TabularMDP(mdp.transition, mdp.reward, mdp.terminal, mdp.initial, np.zeros((4, 2)))
    with pytest.raises(InputError, match="look alike"):
        state_index(blind, np.zeros(2))
    negative_zeros = np.where(mdp.observations == 0, -0.0, mdp.observations)
    np.testing.assert_array_equal(state_index(mdp, negative_zeros), np.arange(4))


# The gridworld


def test_moves_by_hand():
    # A 3 x 3 grid: start in the middle (1, 1), a wall to its right and one below.
    world = gridworld(3, walls=[(2, 1), (1, 2)], slip=0.0, reward="distance")
    at = {tuple(cell): state for state, cell in enumerate(world.cells.tolist())}
    assert len(at) == 6  # nine cells less two walls, less the corner (2, 2) behind them

    def moves(x: int, y: int) -> list[tuple[int, ...]]:
        return [tuple(world.cells[world.transition[at[x, y], a].argmax()]) for a in range(5)]

    assert world.initial[at[1, 1]] == 1
    assert moves(1, 1) == [(1, 1), (1, 0), (1, 1), (0, 1), (1, 1)]
    assert moves(0, 0) == [(0, 0), (0, 0), (0, 1), (0, 0), (1, 0)]
    assert moves(2, 0) == [(2, 0), (2, 0), (2, 0), (1, 0), (2, 0)]
    assert (world.transition.max(-1) == 1).all()


def test_slip_by_hand():
    # In the open middle each action succeeds with 1 - slip + slip / 5 and each other one happens with slip / 5.
    world = gridworld(5, walls=0.0, slip=0.25)
    start = world.initial.argmax()
    p = world.transition[start, UP]
    np.testing.assert_allclose(np.sort(p)[-5:], [0.05, 0.05, 0.05, 0.05, 0.8])
    assert tuple(world.cells[p.argmax()]) == (2, 1)


@pytest.mark.parametrize("size", [2, 3, 8, 16])
@pytest.mark.parametrize("seed", range(4))
def test_goal_is_reachable_and_all_states_are(size, seed):
    world = gridworld(size, seed=seed)
    assert world.initial[world.goal] == 0
    assert (
        occupancy(world, np.full((world.n_states, 5), 0.2), 0.9).sum(1)[~world.terminal] > 0
    ).all()
    assert optimal_q(world, 0.99)[world.initial.argmax()].max() > 0
    picture = ascii_map(world)
    assert (picture.count("S"), picture.count("G")) == (1, 1)
    assert picture.count(".") == world.n_states - 2


def test_walls_are_a_fifth_of_the_cells_and_no_state():
    world = gridworld(16, seed=0)
    free = 256 - int(0.2 * 256)
    assert free - 15 <= world.n_states <= free  # only what walls cut off is missing
    # Explicit walls: the left column is walled off, so that 3 x 4 cells remain and 4 free ones are unreachable.
    split = gridworld(5, walls=[(1, y) for y in range(5)], seed=0)
    assert split.n_states == 15
    assert split.cells[:, 0].min() == 2
    assert ascii_map(split).splitlines()[2].startswith("##S")


@pytest.mark.parametrize("observation", ["onehot", "smooth", "random", "tabular"])
@pytest.mark.parametrize("size", [2, 16])
def test_observations_are_distinct_and_of_the_right_shape(observation, size):
    world = gridworld(size, observation=observation, obs_dim=16)
    width = {"onehot": 2 * size, "tabular": world.n_states}.get(observation, 16)
    assert world.observations.shape == (world.n_states, width)
    assert world.observations.dtype == np.float32
    np.testing.assert_array_equal(state_index(world, world.observations), np.arange(world.n_states))


def test_onehot_is_column_then_row():
    world = gridworld(8)
    for obs, (x, y) in zip(world.observations, world.cells):
        assert np.flatnonzero(obs).tolist() == [x, 8 + y]


def test_smooth_observations_vary_slowly_over_the_grid_and_random_ones_do_not():
    def ratio(observation: str) -> float:
        world = gridworld(16, observation=observation)
        apart = np.linalg.norm(world.observations[:, None] - world.observations, axis=-1)
        near = np.abs(world.cells[:, None] - world.cells).sum(-1) == 1
        return apart[near].mean() / apart[~near].mean()

    assert ratio("smooth") < 0.5
    assert ratio("random") == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(
        gridworld(16, observation="smooth").observations.std(0), 1, rtol=1e-5
    )


def test_smooth_observations_are_swept_in_place_and_rescaled():
    world = gridworld(6, observation="smooth", obs_dim=3, reward="distance", seed=5)
    table = np.random.default_rng(5).spawn(2)[1].standard_normal((world.n_states, 3))
    for _ in range(10):
        for s in range(world.n_states):
            table[s] = sum(
                world.transition[s, a, n] * table[n] / 5
                for a in range(5)
                for n in range(world.n_states)
            )
    np.testing.assert_allclose(world.observations, table / table.std(0), rtol=1e-4, atol=1e-5)


def test_layout_and_observations_depend_on_the_seed_alone():
    one, two, other = (gridworld(8, observation="random", seed=s) for s in (3, 3, 4))
    for name in ("transition", "reward", "observations", "cells"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert ascii_map(one) != ascii_map(other)
    assert ascii_map(one) == ascii_map(
        gridworld(8, observation="smooth", reward="distance", slip=0.5, seed=3)
    )


def test_sparse_and_distance_rewards_by_hand():
    world = gridworld(5, walls=0.0, slip=0.0, goal_reward=2.0, step_reward=-0.1)
    assert world.terminal.nonzero()[0].tolist() == [world.goal]
    start = world.initial.argmax()
    entering = world.reward[start, 0]
    np.testing.assert_allclose(entering, np.where(np.arange(25) == world.goal, 1.9, -0.1))

    world = gridworld(5, walls=0.0, slip=0.0, reward="distance")
    assert not world.terminal.any()
    d = np.hypot(*(world.cells - world.cells[world.goal]).T)
    np.testing.assert_allclose(world.reward[3, 1], 1 - d / d.max())
    assert optimal_q(world, 0.9)[world.goal].argmax() == STAY
    assert optimal_q(world, 0.9)[world.goal, STAY] == pytest.approx(10)  # 1 / (1 - gamma)


@pytest.mark.parametrize("mdp", [chain(4, slip=0.1), gridworld(4)], ids=["chain", "gridworld"])
def test_terminal_states_are_absorbing_and_pay_nothing(mdp):
    (end,) = mdp.terminal.nonzero()[0]
    assert (mdp.transition[end, :, end] == 1).all()
    assert not mdp.reward[end].any()
    assert mdp.reward[~mdp.terminal][..., end].min() == 1


def test_shortest_path_sets_the_value():
    # Without walls and slip the sparse value of the start is gamma^(Manhattan distance - 1).
    world = gridworld(7, walls=0.0, slip=0.0)
    distance = np.abs(world.cells - world.cells[world.goal]).sum(1)
    value = optimal_q(world, 0.9).max(1)
    np.testing.assert_allclose(
        np.delete(value, world.goal), np.delete(0.9 ** (distance - 1.0), world.goal), atol=1e-12
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": 1}, "size"),
        ({"size": 33}, "size"),
        ({"size": 8.5}, "size"),
        ({"walls": 1.0}, "walls"),
        ({"walls": -0.1}, "walls"),
        ({"walls": [(8, 8)]}, "walls"),
        ({"walls": [(16, 0)]}, "walls"),
        ({"walls": [(0.5, 0.5)]}, "walls"),
        ({"walls": "0.2"}, "walls"),
        ({"size": 2, "walls": 0.9}, "no path"),
        ({"size": 3, "walls": [(1, 0), (0, 1), (2, 1), (1, 2)]}, "no path"),
        ({"slip": 1.1}, "slip"),
        ({"obs_dim": 0}, "obs_dim"),
        ({"observation": "smoth"}, "did you mean 'smooth'"),
        ({"reward": "dense"}, "one of sparse, distance"),
    ],
)
def test_impossible_gridworlds_are_refused(kwargs, message):
    with pytest.raises(InputError, match=message):
        gridworld(**kwargs)


@pytest.mark.parametrize(
    "kwargs", [{"length": 1}, {"length": 2000}, {"slip": -1}, {"observation": "onehot"}]
)
def test_impossible_chains_are_refused(kwargs):
    with pytest.raises(InputError):
        chain(**kwargs)


def test_chain_observations():
    np.testing.assert_array_equal(chain(5).observations, np.eye(5))
    assert chain(5, observation="random", obs_dim=3).observations.shape == (5, 3)


# Environments


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("rlop/GridWorld-v0", {}),
        ("rlop.envs:rlop/GridWorld-v0", {"size": 8, "observation": "smooth"}),
        ("rlop/Chain-v0", {}),
        ("rlop/Chain-v0", {"slip": 0.1, "observation": "random"}),
    ],
)
def test_gymnasium_finds_no_fault(name, kwargs):
    env = gymnasium.make(name, **kwargs)
    check_env(env.unwrapped)  # warnings are errors here
    assert env.unwrapped.mdp.n_actions == env.action_space.n
    assert env.spec.make().spec.kwargs == kwargs


@pytest.mark.parametrize(("name", "limit"), [("rlop/GridWorld-v0", 50), ("rlop/Chain-v0", 20)])
def test_registered_time_limits(name, limit):
    single, many = gymnasium.make(name), gymnasium.make_vec(name, num_envs=3)
    single.reset(seed=0)
    many.reset(seed=0)
    away = 0  # stay, or left
    for step in range(1, limit + 1):
        truncated = single.step(away)[3]
        assert truncated == (step == limit)
        assert (many.step(np.full(3, away))[3] == truncated).all()
    assert (
        gymnasium.make_vec(name, num_envs=2, max_episode_steps=7).unwrapped.max_episode_steps == 7
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_successor_table_holds_every_transition(seed):
    mdp, _ = random_mdp(seed)
    following, cumulative = successors(mdp)
    p = np.zeros_like(mdp.transition)
    s, a, _ = np.indices(following.shape)
    np.add.at(p, (s, a, following), np.diff(cumulative, axis=-1, prepend=0))
    np.testing.assert_allclose(p, mdp.transition, rtol=0, atol=1e-12)


def test_sampled_successors_have_their_probabilities():
    mdp, _ = random_mdp(1)
    n, rng = 20_000, np.random.default_rng(0)
    for s, a in ((0, 0), (3, 2)):
        drawn = sample_next(successors(mdp), np.full(n, s), np.full(n, a), rng)
        p, share = mdp.transition[s, a], np.bincount(drawn, minlength=6) / n
        assert not share[p == 0].any()
        assert (
            np.abs(share - p) <= 4 * np.sqrt(p * (1 - p) / n) + 2 / n
        ).all()  # 2 / n for what is all but impossible


def rollout_returns(
    env: TabularVectorEnv, policy: np.ndarray, gamma: float, steps: int
) -> np.ndarray:
    """Discounted return of the first episode of each copy."""
    rng = np.random.default_rng(1)
    _, info = env.reset(seed=2)
    alive, total = np.ones(env.num_envs, bool), np.zeros(env.num_envs)
    for t in range(steps):
        u = rng.random((env.num_envs, 1))
        action = np.minimum((u > policy.cumsum(1)[info["state"]]).sum(1), policy.shape[1] - 1)
        _, reward, terminated, truncated, info = env.step(action)
        total += alive * gamma**t * reward
        alive &= ~(terminated | truncated)
    return total


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rollouts_average_to_the_exact_return(seed):
    mdp, policy = random_mdp(seed)
    n = 4000
    returns = rollout_returns(TabularVectorEnv(mdp, n), policy, 0.8, 80)  # 0.8^80 = 2e-8
    assert abs(returns.mean() - policy_return(mdp, policy, 0.8)) < 4 * returns.std() / np.sqrt(n)
    returns = rollout_returns(TabularVectorEnv(mdp, n, max_episode_steps=6), policy, 1.0, 6)
    assert abs(
        returns.mean() - policy_return_undiscounted(mdp, policy, 6)
    ) < 4 * returns.std() / np.sqrt(n)


def test_single_env_rollouts_average_to_the_exact_return():
    mdp = chain(4, slip=0.4)
    env, n = gymnasium.wrappers.TimeLimit(TabularEnv(mdp), 5), 800
    right, returns = np.tile([0.0, 1.0], (4, 1)), np.zeros(n)
    env.reset(seed=0)
    for i in range(n):
        env.reset()
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(1)
            returns[i] += reward
            over = terminated or truncated
    assert abs(
        returns.mean() - policy_return_undiscounted(mdp, right, 5)
    ) < 4 * returns.std() / np.sqrt(n)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("rlop/Chain-v0", {"length": 4}), ("rlop/GridWorld-v0", {"size": 4, "slip": 0.0})],
)
def test_vector_env_steps_like_gymnasiums_own(name, kwargs):
    ours, theirs = (
        gymnasium.make_vec(name, num_envs=5, vectorization_mode=mode, **kwargs)
        for mode in (None, "sync")
    )
    assert isinstance(ours, TabularVectorEnv)
    assert (
        ours.metadata["autoreset_mode"]
        == theirs.metadata["autoreset_mode"]
        == AutoresetMode.NEXT_STEP
    )
    for space in (
        "single_observation_space",
        "single_action_space",
        "observation_space",
        "action_space",
    ):
        assert getattr(ours, space) == getattr(theirs, space)
    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    rng, ends = np.random.default_rng(0), np.zeros(2)
    for _ in range(150):
        # Mostly stay or left in one copy, so that it runs into the time limit.
        action = rng.integers(ours.single_action_space.n, size=5)
        action[0] = 0
        mine, other = ours.step(action), theirs.step(action)
        for a, b in zip(mine[:4], other[:4]):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for key in ("state", "_state"):
            np.testing.assert_array_equal(mine[4][key], other[4][key])
        ends += mine[2].sum(), mine[3].sum()
    assert (ends > 2).all()  # both kinds of ending were seen


def test_vector_env_autoreset_by_hand():
    env = TabularVectorEnv(chain(3), 2, max_episode_steps=3)
    env.reset(seed=0)
    state, reward, terminated, truncated = [], [], [], []
    for action in ([1, 0], [1, 0], [1, 0], [1, 1], [1, 1]):
        _, r, te, tr, info = env.step(np.array(action))
        for column, value in zip(
            (state, reward, terminated, truncated), (info["state"], r, te, tr)
        ):
            column.append(value.tolist())
    assert state == [[1, 0], [2, 0], [0, 0], [1, 0], [2, 1]]
    assert reward == [[0, 0], [1, 0], [0, 0], [0, 0], [1, 0]]
    assert terminated == [
        [False, False],
        [True, False],
        [False, False],
        [False, False],
        [True, False],
    ]
    assert truncated == [
        [False, False],
        [False, False],
        [False, True],
        [False, False],
        [False, False],
    ]


def test_returned_observations_are_the_callers_own():
    single, many = TabularEnv(chain(3)), TabularVectorEnv(chain(3), 2)
    for env in (single, many):
        obs, info = env.reset(seed=0)
        obs += 5
        np.testing.assert_array_equal(env.mdp.observations, np.eye(3))
        info["state"] *= 0
        info["state"] += 2
        info = env.step(np.zeros(2, int) if env is many else 0)[-1]
        assert not np.any(info["state"])  # had the state inside been written to, it would not be 0


def test_misused_environments_say_so():
    env = TabularEnv(chain(2))
    with pytest.raises(InputError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(InputError, match="action"):
        env.step(-1)
    env.step(1)
    with pytest.raises(InputError, match="over"):
        env.step(1)
    many = TabularVectorEnv(chain(2), 2)
    with pytest.raises(InputError, match="reset"):
        many.step(np.zeros(2, int))
    many.reset()
    for bad in (np.zeros(3, int), np.array([0, 2]), np.zeros(2)):
        with pytest.raises(InputError, match="actions"):
            many.step(bad)
    with pytest.raises(InputError, match="num_envs"):
        TabularVectorEnv(chain(2), 0)
