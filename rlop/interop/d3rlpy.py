"""Probes during a training of d3rlpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rlop.config.checks import check_range
from rlop.interop.network_probe import ACTOR, EVERY, NetworkProbe
from rlop.interop.sb3 import last_linear
from rlop.probes.units import DEAD
from rlop.types import InputError

Algorithm: TypeAlias = Any  # of d3rlpy, an optional package
Buffer: TypeAlias = Any
OPTIONS = ("learning_rate", "critic_learning_rate", "gamma", "batch_size", "n_critics", "alpha")


class Rows(NamedTuple):
    """The fixed batch: observations, actions, next observations and 1 - terminated."""

    obs: np.ndarray
    action: np.ndarray
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
    """

    def __init__(
        self,
        logdir: str | Path,
        dataset: Buffer,
        every: int = EVERY,
        size: int = 2048,
        name: str | None = None,
        seed: int = 0,
    ) -> None:
        check_range("every", every, low=1)
        check_range("size", size, low=2)
        self.logdir, self.every, self.name, self.seed = Path(logdir), every, name, seed
        self.rows = rows_of(dataset, size)
        self.probe: NetworkProbe | None = None

    def __call__(self, algorithm: Algorithm, epoch: int, step: int) -> None:
        """Measure if a probe is due at this step."""
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
            network, heads = _All(nn.ModuleList([policy])), {ACTOR: _head(policy, 0)}
        else:
            network = _All(values)
            heads = {f"critic_{n + 1}": _head(q, n) for n, q in enumerate(values)}

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
        )


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

    obs, action, next_obs, mask = [], [], [], []
    for episode in episodes:
        obs.append(episode.observations[:-1])
        next_obs.append(episode.observations[1:])
        action.append(episode.actions[:-1])
        mask.append(np.ones(len(episode.observations) - 1, np.float32))

    total = sum(map(len, mask))
    rows = np.arange(min(size, total)) * total // min(size, total)
    return Rows(*(np.concatenate(part)[rows] for part in (obs, action, next_obs, mask)))


class _All(nn.Module):
    """Several networks on the same input."""

    def __init__(self, networks: nn.ModuleList) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, obs: Tensor, action: Tensor | None) -> None:
        """Run all of them."""
        for network in self.networks:
            network(obs) if action is None else network(obs, action)


def _head(network: nn.Module, number: int) -> str:
    """Return the name of a network's layer that reads the features, within `_All`."""
    names = [name for name, _ in network.named_modules()]
    for name in ("_fc", "_mu"):
        if name in names:
            return f"networks.{number}.{name}"
    return f"networks.{number}.{last_linear(network)}"


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
