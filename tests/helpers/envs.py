"""Random Markov decision processes."""

import numpy as np

from rlop.envs import TabularMDP


def random_mdp(seed, s=6, a=3):
    """A process with impossible transitions and one or two terminal states, and a random policy."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(s, 0.3), (s, a)) * (rng.random((s, a, s)) < 0.7)
    transition[..., 0] += 1e-3
    transition /= transition.sum(-1, keepdims=True)

    terminal = np.arange(s) >= s - rng.integers(1, 3)
    initial = np.where(terminal, 0, rng.random(s))
    reward = rng.normal(size=(s, a, s))
    observations = rng.normal(size=(s, 2, 2))
    mdp = TabularMDP(transition, reward, terminal, initial / initial.sum(), observations)
    return mdp, rng.dirichlet(np.ones(a), s)


def uniform_policy(mdp):
    """Every action equally often, `[S, A]`."""
    return np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
