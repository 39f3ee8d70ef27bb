"""The gridworld and the chain: moves, rewards, observations, and what is refused."""

import numpy as np
import pytest
from helpers.envs import uniform_policy

from rlop.envs import ascii_map, chain, gridworld, occupancy, optimal_q, state_index
from rlop.types import InputError

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def open_grid(size, **options):
    """A grid without walls and slip."""
    return gridworld(size, walls=0.0, slip=0.0, **options)


# --- moves ---


@pytest.mark.parametrize(
    ("cell", "moves"),
    [
        ((1, 1), [(1, 1), (1, 0), (1, 1), (0, 1), (1, 1)]),
        ((0, 0), [(0, 0), (0, 0), (0, 1), (0, 0), (1, 0)]),
        ((2, 0), [(2, 0), (2, 0), (2, 0), (1, 0), (2, 0)]),
    ],
)
def test_moves_by_hand(cell, moves):
    # A 3 x 3 grid: start in the middle (1, 1), a wall to its right and one below.
    world = gridworld(3, walls=[(2, 1), (1, 2)], slip=0.0, reward="distance")
    cells = [tuple(c) for c in world.cells.tolist()]
    assert len(cells) == 6  # nine less two walls, less the corner (2, 2) that they cut off
    assert world.initial[cells.index((1, 1))] == 1
    assert (world.transition.max(-1) == 1).all()

    state = cells.index(cell)
    for action, entered in enumerate(moves):
        assert cells[world.transition[state, action].argmax()] == entered


def test_slip_by_hand():
    # In the open middle each action succeeds with 1 - slip + slip / 5, and each other one happens
    # with slip / 5.
    world = gridworld(5, walls=0.0, slip=0.25)
    start = world.initial.argmax()
    p = world.transition[start, UP]
    np.testing.assert_allclose(np.sort(p)[-5:], [0.05, 0.05, 0.05, 0.05, 0.8])
    assert tuple(world.cells[p.argmax()]) == (2, 1)


# --- layout ---


@pytest.mark.parametrize("size", [2, 3, 8, 16])
@pytest.mark.parametrize("seed", range(4))
def test_the_start_reaches_the_goal_and_every_state(size, seed):
    world = gridworld(size, seed=seed)
    assert world.initial[world.goal] == 0
    assert optimal_q(world, 0.99)[world.initial.argmax()].max() > 0

    visits = occupancy(world, uniform_policy(world), 0.9).sum(1)
    assert (visits[~world.terminal] > 0).all()

    picture = ascii_map(world)
    assert picture.count("S") == 1
    assert picture.count("G") == 1
    assert picture.count(".") == world.n_states - 2


def test_a_fifth_of_the_cells_are_walls_by_default():
    free = 256 - int(0.2 * 256)
    # Only the cells that walls cut off are missing.
    assert free - 15 <= gridworld(16, seed=0).n_states <= free


def test_explicit_walls_and_the_cells_they_cut_off_are_no_states():
    column = [(1, y) for y in range(5)]
    world = gridworld(5, walls=column, seed=0)
    assert world.n_states == 15
    assert world.cells[:, 0].min() == 2
    assert ascii_map(world).splitlines()[2].startswith("##S")


def test_layout_and_observations_depend_on_the_seed_alone():
    world = gridworld(8, observation="random", seed=3)
    again = gridworld(8, observation="random", seed=3)
    np.testing.assert_array_equal(world.transition, again.transition)
    np.testing.assert_array_equal(world.reward, again.reward)
    np.testing.assert_array_equal(world.observations, again.observations)
    np.testing.assert_array_equal(world.cells, again.cells)

    other_options = gridworld(8, observation="smooth", reward="distance", slip=0.5, seed=3)
    other_seed = gridworld(8, observation="random", seed=4)
    assert ascii_map(world) == ascii_map(other_options)
    assert ascii_map(world) != ascii_map(other_seed)


# --- rewards ---


def test_sparse_rewards_by_hand():
    world = open_grid(5, goal_reward=2.0, step_reward=-0.1)
    assert world.terminal.nonzero()[0].tolist() == [world.goal]

    expected = np.full(25, -0.1)
    expected[world.goal] = 1.9
    start = world.initial.argmax()
    np.testing.assert_allclose(world.reward[start, 0], expected)


def test_distance_rewards_by_hand():
    world = open_grid(5, reward="distance")
    assert not world.terminal.any()

    x, y = (world.cells - world.cells[world.goal]).T
    distance = np.hypot(x, y)
    np.testing.assert_allclose(world.reward[3, 1], 1 - distance / distance.max())

    at_goal = optimal_q(world, 0.9)[world.goal]
    assert at_goal.argmax() == STAY
    assert at_goal[STAY] == pytest.approx(10)  # 1 / (1 - gamma)


def test_shortest_path_sets_the_value():
    # Without walls and slip the sparse value is gamma^(Manhattan distance - 1).
    world = open_grid(7)
    distance = np.abs(world.cells - world.cells[world.goal]).sum(1)
    expected = 0.9 ** (distance - 1.0)
    expected[world.goal] = 0
    np.testing.assert_allclose(optimal_q(world, 0.9).max(1), expected, atol=1e-12)


@pytest.mark.parametrize("mdp", [chain(4, slip=0.1), gridworld(4)], ids=["chain", "gridworld"])
def test_terminal_states_are_absorbing_and_pay_nothing(mdp):
    (end,) = mdp.terminal.nonzero()[0]
    assert (mdp.transition[end, :, end] == 1).all()
    assert not mdp.reward[end].any()
    assert mdp.reward[~mdp.terminal][..., end].min() == 1


# --- observations ---


@pytest.mark.parametrize("size", [2, 16])
@pytest.mark.parametrize("observation", ["onehot", "smooth", "random", "tabular"])
def test_observations_are_distinct_and_of_the_right_shape(observation, size):
    world = gridworld(size, observation=observation, obs_dim=16)
    widths = {"onehot": 2 * size, "tabular": world.n_states, "smooth": 16, "random": 16}
    assert world.observations.shape == (world.n_states, widths[observation])
    assert world.observations.dtype == np.float32
    np.testing.assert_array_equal(state_index(world, world.observations), np.arange(world.n_states))


def test_onehot_is_column_then_row():
    world = gridworld(8)
    for obs, (x, y) in zip(world.observations, world.cells, strict=True):
        assert np.flatnonzero(obs).tolist() == [x, 8 + y]


@pytest.mark.parametrize(
    ("observation", "low", "high"), [("smooth", 0, 0.5), ("random", 0.95, 1.05)]
)
def test_smooth_observations_vary_slowly_over_the_grid_and_random_ones_do_not(
    observation, low, high
):
    world = gridworld(16, observation=observation)
    distance = np.linalg.norm(world.observations[:, None] - world.observations, axis=-1)
    steps = np.abs(world.cells[:, None] - world.cells).sum(-1)
    ratio = distance[steps == 1].mean() / distance[steps != 1].mean()
    assert low < ratio < high


def test_smooth_observations_are_swept_in_place_and_rescaled():
    world = gridworld(6, observation="smooth", obs_dim=3, reward="distance", seed=5)
    table = np.random.default_rng(5).spawn(2)[1].standard_normal((world.n_states, 3))
    for _ in range(10):
        for state in range(world.n_states):
            mean = np.zeros(3)
            for action in range(5):
                mean += world.transition[state, action] @ table / 5
            table[state] = mean
    np.testing.assert_allclose(world.observations, table / table.std(0), rtol=1e-4, atol=1e-5)


def test_chain_observations():
    np.testing.assert_array_equal(chain(5).observations, np.eye(5))
    assert chain(5, observation="random", obs_dim=3).observations.shape == (5, 3)


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_impossible_gridworlds_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        gridworld(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "length"),
        ({"length": 2000}, "length"),
        ({"slip": -1}, "slip"),
        ({"observation": "onehot"}, "one of tabular, random"),
    ],
)
def test_impossible_chains_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        chain(**options)
