"""Probes during a training of d3rlpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rlop.config.checks import check_range
from rlop.interop.network_probe import ACTOR, EVERY, NetworkProbe
from rlop.interop.values import (
    ActionValues,
    HeavierProbes,
    check_names,
    last_linear,
    transitions,
)
from rlop.probes.units import DEAD
from rlop.types import Batch, InputError, Spec

Algorithm: TypeAlias = Any  # of d3rlpy, an optional package
Buffer: TypeAlias = Any
OPTIONS = ("learning_rate", "critic_learning_rate", "gamma", "batch_size", "n_critics", "alpha")


class Rows(NamedTuple):
    """The fixed batch: observations, actions, rewards, next observations and 1 - terminated."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    mask: np.ndarray


class D3rlpyProbe:
    """Measure the networks of a d3rlpy algorithm while it learns; a callback of `fit`.

        with rlop.interop.D3rlpyProbe("runs/cql-1", dataset, seed=1) as probe:
            cql.fit(dataset, n_steps=100_000, callback=probe)

    Measured are the features of every Q-function, or else of the policy, on the same rows every
    time; see `NetworkProbe` for what is recorded.

    Args:
        logdir: folder of the record, which `rlop report` and TensorBoard read.
        dataset: the replay buffer of the training, whose rows it is measured on.
        every: updates between two probes.
        size: number of rows.
        name: of the method in reports; by default the algorithm's.
        seed: of the training.
        probes: of the heavier probes of `rlop.probes.pack`, those that are measured too, of an
            algorithm with Q-functions. d3rlpy calls this after the first update, which is when they
            are tried, and the networks of that moment count as the initial ones.
    Raises:
        InputError: for a data set of another kind, or a probe that does not suit its actions; at
            the first update, for one that cannot be taken of the networks.
    """

    def __init__(
        self,
        logdir: str | Path,
        dataset: Buffer,
        every: int = EVERY,
        size: int = 2048,
        name: str | None = None,
        seed: int = 0,
        probes: Sequence[str] = (),
    ) -> None:
        check_range("every", every, low=1)
        check_range("size", size, low=2)
        self.spec = _spec(dataset)
        check_names(probes, discrete=self.spec.n_actions is not None)
        self.logdir, self.every, self.name, self.seed = Path(logdir), every, name, seed
        self.rows = rows_of(dataset, size)
        self.probes = probes
        self.values: ActionValues | None = None
        self.probe: NetworkProbe | None = None

    def __call__(self, algorithm: Algorithm, epoch: int, step: int) -> None:
        """Measure if a probe is due at this step."""
        if self.probes and self.values is None:
            self.values = values_of(algorithm, self.spec)
            HeavierProbes(self.values, self._transitions(algorithm), self.probes)
        if step % self.every:
            return
        if self.probe is None:
            self.probe = self._begin(algorithm)
        self.probe.measure(step)

    def close(self) -> None:
        """Complete the record. Idempotent."""
        if self.probe is not None:
            self.probe.close()

    def __enter__(self) -> D3rlpyProbe:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, algorithm: Algorithm) -> NetworkProbe:
        modules = algorithm.impl.modules
        values = getattr(modules, "q_funcs", None)
        obs, action = _scaled(algorithm, self.rows.obs), None
        next_obs, next_action = _scaled(algorithm, self.rows.next_obs), None
        if values is not None and _reads_actions(values):
            action = _scaled_actions(algorithm, self.rows.action)
            next_action = algorithm.impl.predict_best_action(next_obs)

        if values is None:
            policy = getattr(modules, "imitator", None)
            if policy is None:
                raise InputError(f"{type(algorithm).__name__}: expected Q-functions or a policy")
            network, heads = _All(nn.ModuleList([policy])), {ACTOR: f"networks.0.{_head(policy)}"}
        else:
            network = _All(values)
            heads = {f"critic_{n + 1}": f"networks.{n}.{_head(q)}" for n, q in enumerate(values)}

        options = {key: getattr(algorithm.config, key, None) for key in OPTIONS}
        plain = {k: v for k, v in options.items() if isinstance(v, int | float | str)}
        algorithm_name = type(algorithm).__name__
        return NetworkProbe(
            self.logdir,
            network,
            (obs, action),
            (next_obs, next_action),
            torch.as_tensor(self.rows.mask, device=obs.device),
            0,
            heads,
            activation=_activation(algorithm.config),
            name=self.name or algorithm_name,
            seed=self.seed,
            config={"algorithm": algorithm_name, **plain},
            probes=self.probes,
            values=self.values,
            rows=self._transitions(algorithm) if self.probes else None,
        )

    def _transitions(self, algorithm: Algorithm) -> Batch:
        """Return the rows as the networks read them."""
        obs = _scaled(algorithm, self.rows.obs)
        action = torch.as_tensor(self.rows.action, device=obs.device)
        if self.spec.n_actions is None:
            action = _scaled_actions(algorithm, self.rows.action)
        reward = torch.as_tensor(self.rows.reward, dtype=torch.float32, device=obs.device)
        scaler = algorithm.reward_scaler
        reward = reward if scaler is None else scaler.transform(reward)
        terminated = 1 - torch.as_tensor(self.rows.mask, device=obs.device)
        next_obs = _scaled(algorithm, self.rows.next_obs)
        return transitions(obs, action, reward, next_obs, terminated)


def rows_of(dataset: Buffer, size: int) -> Rows:
    """Return evenly spaced transitions of a replay buffer of d3rlpy.

    Args:
        dataset: the buffer.
        size: their number, at most.
    Raises:
        InputError: its observations are not single arrays.
    """
    episodes = [episode for episode in dataset.episodes if len(episode.observations) > 1]
    if not episodes or not isinstance(episodes[0].observations, np.ndarray):
        raise InputError("dataset: expected episodes with one array of observations each")

    obs, action, reward, next_obs, mask = [], [], [], [], []
    for episode in episodes:
        obs.append(episode.observations[:-1])
        next_obs.append(episode.observations[1:])
        action.append(episode.actions[:-1])
        reward.append(episode.rewards[:-1])
        mask.append(np.ones(len(episode.observations) - 1, np.float32))

    total = sum(map(len, mask))
    rows = np.arange(min(size, total)) * total // min(size, total)
    return Rows(*(np.concatenate(part)[rows] for part in (obs, action, reward, next_obs, mask)))


def values_of(algorithm: Algorithm, spec: Spec) -> ActionValues:
    """Return the action values of an algorithm, whose parameters of now count as initial.

    Args:
        algorithm: of d3rlpy, with networks.
        spec: of its data set.
    Raises:
        InputError: it has no Q-functions with targets, or several of discrete actions.
    """
    modules = algorithm.impl.modules
    online, target = getattr(modules, "q_funcs", None), getattr(modules, "targ_q_funcs", None)
    if online is None or target is None:
        raise InputError(f"probes: expected Q-functions, {type(algorithm).__name__} has none")
    return ActionValues(
        [_Values(q) for q in online],
        spec,
        float(algorithm.config.gamma),
        [_Values(q) for q in target],
        algorithm.impl.predict_best_action if spec.n_actions is None else None,
        head=f"network.{_head(online[0])}",
    )


def _spec(dataset: Buffer) -> Spec:
    """Describe the observations and actions of a replay buffer."""
    info = dataset.dataset_info
    obs_shape = tuple(info.observation_signature.shape[0])
    if info.action_space.name == "DISCRETE":
        return Spec(obs_shape, n_actions=int(info.action_size))
    return Spec(obs_shape, action_shape=(int(info.action_size),))


class _Values(nn.Module):
    """The values of a Q-function, without its quantiles."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return `[n, A]`, or `[n, 1]` for a pair of observations and actions."""
        return self.network(*inputs).q_value


class _All(nn.Module):
    """Several networks on the same input."""

    def __init__(self, networks: nn.ModuleList) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, obs: Tensor, action: Tensor | None) -> None:
        """Run all of them."""
        for network in self.networks:
            network(obs) if action is None else network(obs, action)


def _head(network: nn.Module) -> str:
    """Return the name of a network's layer that reads the features."""
    names = [name for name, _ in network.named_modules()]
    for name in ("_fc", "_mu"):
        if name in names:
            return name
    return last_linear(network)


def _reads_actions(values: nn.ModuleList) -> bool:
    """Whether Q-functions read continuous actions."""
    return "Continuous" in type(values[0]).__name__


def _scaled(algorithm: Algorithm, obs: np.ndarray) -> Tensor:
    """Return observations as the networks read them."""
    tensor = torch.as_tensor(obs, dtype=torch.float32, device=algorithm.impl.device)
    scaler = algorithm.observation_scaler
    return tensor if scaler is None else scaler.transform(tensor)


def _scaled_actions(algorithm: Algorithm, action: np.ndarray) -> Tensor:
    """Return actions as the networks read them."""
    tensor = torch.as_tensor(action, dtype=torch.float32, device=algorithm.impl.device)
    scaler = algorithm.action_scaler
    return tensor if scaler is None else scaler.transform(tensor)


def _activation(config: Any) -> str:
    """Return the activation of the Q-functions."""
    for key in ("critic_encoder_factory", "encoder_factory"):
        encoder = getattr(config, key, None)
        if encoder is not None:
            name = str(getattr(encoder, "activation", "relu"))
            return name if name in DEAD else "identity"
    return "relu"
