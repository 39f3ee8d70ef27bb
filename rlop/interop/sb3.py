"""Probes during a training of Stable-Baselines3 or its contrib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rlop.config.checks import check_known, check_range
from rlop.interop.network_probe import ACTOR, EVERY, NetworkProbe
from rlop.interop.sb3_values import has_critics, values_of
from rlop.interop.values import ActionValues, last_linear, transitions
from rlop.probes.heavy import PROBES
from rlop.probes.units import DEAD
from rlop.types import Batch, InputError

Model: TypeAlias = Any  # of Stable-Baselines3, an optional package
Obs: TypeAlias = Any  # a tensor `[n, ...]`, or a dictionary of them
OPTIONS = ("learning_rate", "gamma", "batch_size", "buffer_size", "tau", "n_steps", "n_epochs")


class Rows(NamedTuple):
    """The fixed batch: observations, and what follows them where a replay buffer has it."""

    obs: Obs
    action: Tensor | None = None
    next_obs: Obs | None = None
    mask: Tensor | None = None
    reward: Tensor | None = None
    discount: Tensor | None = None  # factor of the next value, where it is not gamma


class Measured(NamedTuple):
    """A network of a model: what runs, on what, and the linear layers that read its features."""

    network: nn.Module
    batch: tuple[object, ...]
    next_batch: tuple[object, ...] | None
    heads: Mapping[str, str]


def ProbeCallback(
    logdir: str | Path,
    obs: np.ndarray | Mapping[str, np.ndarray] | None = None,
    every: int = EVERY,
    size: int = 2048,
    name: str | None = None,
    probes: Sequence[str] = (),
) -> Any:
    """Make a callback of Stable-Baselines3 that measures the model's networks while it learns.

        model = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", seed=1)
        model.learn(100_000, callback=rlop.ProbeCallback("runs/dqn-1"))

    Measured are the features of the action values (DQN, QR-DQN and the like), of every critic (SAC,
    TD3, TQC), or of policy and values (PPO, A2C, TRPO), on the same rows every time; see
    `rlop.interop.NetworkProbe` for what is recorded. Stable-Baselines3's own logger gets the
    numbers, too. The training is not changed: not its random numbers either.

    Args:
        logdir: folder of the record, which `rlop report` and TensorBoard read.
        obs: observations `[n, ...]` to measure on, as the environment gives them. None takes rows
            of the model's buffer at the first probe, and with a replay buffer what follows them,
            which adds `feature/dot` and `feature/cosine` and is needed for critics.
        every: environment steps between two probes.
        size: number of rows taken from the buffer.
        name: of the method in reports; by default the algorithm's.
        probes: of the heavier probes of `rlop.probes.pack`, those that are measured too, of a model
            with action values; `obs` must be None.
    Returns:
        A `stable_baselines3.common.callbacks.BaseCallback`.
    Raises:
        InputError: Stable-Baselines3 is not installed; before training, for a probe that cannot be
            taken; in training, for a model whose networks are not known.
    """
    check_range("every", every, low=1)
    check_range("size", size, low=2)
    for probe in probes:
        check_known("probe", probe, PROBES)
    if probes and obs is not None:
        raise InputError("obs: expected None with probes, which need actions and rewards, too")
    return _callback_class()(logdir, obs, every, size, name, probes)


@cache
def _callback_class() -> Callable[..., Any]:
    """Define the class of the callback, for which Stable-Baselines3 must be imported."""
    try:
        from stable_baselines3.common.callbacks import BaseCallback
    except ImportError:
        raise InputError(
            "ProbeCallback needs Stable-Baselines3: pip install 'rlop[collect]'"
        ) from None

    class SB3Probe(BaseCallback):
        """See `rlop.ProbeCallback`."""

        def __init__(
            self,
            logdir: str | Path,
            obs: Obs | None,
            every: int,
            size: int,
            name: str | None,
            probes: Sequence[str],
        ) -> None:
            super().__init__()
            self.logdir, self.obs, self.every, self.size = Path(logdir), obs, every, size
            self.name, self.probes = name, probes
            self.probe: NetworkProbe | None = None
            self.values: ActionValues | None = None

        def _on_training_start(self) -> None:
            if self.probes and self.values is None:
                self.values = values_of(self.model, self.probes)

        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            """Measure if a probe is due; a rollout ends before every round of updates."""
            if self.probe is None:
                is_due = self.num_timesteps >= self.every
                if is_due and (rows := rows_of(self.model, self.obs, self.size)) is not None:
                    self.probe = self._begin(rows)
                    self._measure(self.probe)
            elif self.num_timesteps // self.every != self.probe.step // self.every:
                self._measure(self.probe)

        def _on_training_end(self) -> None:
            if self.probe is not None:
                self.probe.close()

        def _begin(self, rows: Rows) -> NetworkProbe:
            model = self.model
            algorithm = type(model).__name__
            measured = measured_of(model, rows)

            options = {key: getattr(model, key, None) for key in OPTIONS}
            plain = {k: v for k, v in options.items() if isinstance(v, int | float | str)}
            activation = getattr(model.policy, "activation_fn", nn.ReLU).__name__.lower()
            return NetworkProbe(
                self.logdir,
                measured.network,
                measured.batch,
                measured.next_batch,
                rows.mask if measured.next_batch else None,
                0,
                measured.heads,
                activation=activation if activation in DEAD else "identity",
                name=self.name or algorithm,
                seed=model.seed or 0,
                config={"algorithm": algorithm, **plain},
                probes=self.probes,
                values=self.values,
                rows=_transitions(rows, model) if self.probes else None,
            )

        def _measure(self, probe: NetworkProbe) -> None:
            episodes = self.model.ep_info_buffer
            extra = {}
            if episodes:
                extra["rollout/return"] = float(np.mean([episode["r"] for episode in episodes]))

            measures = probe.measure(self.num_timesteps, extra)
            for key, value in measures.items():
                self.logger.record(key, value, exclude=("stdout", "log", "json", "csv"))

    return SB3Probe


# --- rows


def rows_of(model: Model, obs: Obs | None, size: int) -> Rows | None:
    """Return the rows to measure on; None while the model's buffer is empty.

    Args:
        model: a model of Stable-Baselines3.
        obs: observations given by the user.
        size: number of rows taken from a buffer.
    """
    if obs is not None:
        return Rows(model.policy.obs_to_tensor(obs)[0])

    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        if not buffer.size():
            return None
        with _own_random_numbers():
            sample = buffer.sample(size, env=model.get_vec_normalize_env())
        return Rows(
            sample.observations,
            sample.actions,
            sample.next_observations,
            mask=1 - sample.dones.flatten(),
            reward=sample.rewards,
            discount=getattr(sample, "discounts", None),
        )

    observations = model.rollout_buffer.observations  # [steps, environments, ...]
    if isinstance(observations, dict):
        flat = {key: _spread(value, size) for key, value in observations.items()}
        return Rows({key: value.to(model.device) for key, value in flat.items()})
    return Rows(_spread(observations, size).to(model.device))


def _transitions(rows: Rows, model: Model) -> Batch:
    """Put rows of a replay buffer into the form of the heavier probes."""
    assert rows.action is not None
    assert rows.reward is not None
    assert rows.mask is not None
    assert rows.next_obs is not None
    discount = None
    if rows.discount is not None and model.gamma:
        discount = rows.discount / model.gamma
    return transitions(rows.obs, rows.action, rows.reward, rows.next_obs, 1 - rows.mask, discount)


def _spread(values: np.ndarray, size: int) -> Tensor:
    """Return evenly spaced rows of `[steps, environments, ...]`."""
    rows = values.reshape(-1, *values.shape[2:])
    count = min(size, len(rows))
    return torch.as_tensor(rows[np.arange(count) * len(rows) // count])


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Draw from NumPy's global generator, seeded, and leave it as it was."""
    before = np.random.get_state()  # noqa: NPY002  # the one that buffers draw from
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


# --- networks


class _ActorCritic(nn.Module):
    """The two outputs of a policy with values, without drawing an action."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Obs) -> tuple[Tensor, Tensor]:
        """Return what parametrizes the actions, and the values `[n, 1]`."""
        features = self.policy.extract_features(obs)
        if isinstance(features, tuple):  # policy and values have extractors of their own
            extractor = self.policy.mlp_extractor
            actor, value = features
            latent = extractor.forward_actor(actor), extractor.forward_critic(value)
        else:
            latent = self.policy.mlp_extractor(features)
        return self.policy.action_net(latent[0]), self.policy.value_net(latent[1])


def measured_of(model: Model, rows: Rows) -> Measured:
    """Return the networks of a model that are measured.

    Args:
        model: a model of Stable-Baselines3 or its contrib.
        rows: the fixed batch.
    Raises:
        InputError: for an algorithm with other networks, or critics without actions.
    """
    policy = model.policy
    next_batch = None if rows.next_obs is None else (rows.next_obs,)
    for name in ("q_net", "quantile_net"):
        network = getattr(policy, name, None)
        if network is not None:
            return Measured(network, (rows.obs,), next_batch, {"": last_linear(network)})

    if has_critics(policy):
        return _critics(policy, rows)
    if all(hasattr(policy, name) for name in ("mlp_extractor", "action_net", "value_net")):
        heads = {"value": "policy.value_net", ACTOR: "policy.action_net"}
        if not hasattr(policy, "lstm_actor"):
            return Measured(_ActorCritic(policy), (rows.obs,), None, heads)
    raise InputError(
        f"{type(policy).__name__}: expected action values, critics, or a policy with values; "
        "measure its networks with rlop.interop.NetworkProbe"
    )


def _critics(policy: Any, rows: Rows) -> Measured:
    """Return the critics of a policy for continuous actions."""
    if rows.action is None:
        raise InputError("obs: expected None for a model with critics, which need actions, too")
    with torch.no_grad():
        # The policy's action is fixed with the rows: what changes is the critic alone.
        next_action = policy._predict(rows.next_obs, deterministic=True)
    heads = {}
    for number, network in enumerate(policy.critic.q_networks):
        heads[f"critic_{number + 1}"] = f"qf{number}.{last_linear(network)}"
    batch, next_batch = (rows.obs, rows.action), (rows.next_obs, next_action)
    return Measured(policy.critic, batch, next_batch, heads)
