"""A policy as it is deployed: one run of an agent, in the environment's own units.

`rlop.training.evaluate.Evaluator` acts through it too, so that a score in the log is a score of the
policy that is loaded later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlop.config.checks import check_range
from rlop.data.adapter import Adapter, leaves
from rlop.deploy.acting import Acting, Representing, Valuing
from rlop.deploy.files import write
from rlop.deploy.graph import Graph
from rlop.deploy.observations import first_leaf, read_batch
from rlop.envs.spaces import Space, bounded, random_actions
from rlop.types import Batch, InputError, Spec


class Policy:
    """One run of an agent, acting in an environment's own observations and actions.

    Takes one observation or a batch of n, NumPy or torch, dictionaries too, and answers in kind.
    What the data's reader and transforms did to observations and actions happens inside.

        policy = rlop.load_policy("runs/hopper")
        action = policy(obs)

    Args:
        agent: with R = 1, from `Agent.one_run`.
        adapter: of the environment.
        epsilon: probability of a uniformly random action at each call.
        seed: of these random actions.
        about: section -> name -> value, for the model card of an exported file.
    Attributes:
        observation_space, action_space: of the environment.
    Raises:
        InputError: exploration without bounds to draw actions in.
    """

    def __init__(
        self,
        agent: Acting,
        adapter: Adapter,
        *,
        epsilon: float = 0.0,
        seed: int = 0,
        about: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.agent = agent
        self.adapter = adapter
        self.observation_space: Space = adapter.obs_space
        self.action_space: Space = adapter.action_space
        self.about = {section: dict(facts) for section, facts in (about or {}).items()}
        self.epsilon = check_epsilon("epsilon", epsilon, adapter.action_space)
        self.rng = np.random.default_rng(seed)

        spaces = dict(leaves(adapter.obs_space))
        self.parts = [(key, spaces[key]) for key in adapter.keys or ("",)]

    @property
    def spec(self) -> Spec:
        """What the agent knows of the data it was trained on."""
        return self.adapter.spec

    def __call__(self, obs: Any) -> Any:
        """Return the action at an observation, or those of a batch.

        Args:
            obs: of the environment, `[*S]` or `[n, *S]`; a dictionary of them.
        Returns:
            What `env.step` takes, or `[n, ...]`; a tensor on the device of `obs` if that is one.
        Raises:
            InputError: observations of another shape or type.
        """
        return self._answer(obs, lambda seen: self.play(seen, self.epsilon, self.rng))

    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Act as a model of Stable-Baselines3 does; its `evaluate_policy` takes this policy.

        Args:
            obs: as in a call.
            state: of a recurrent policy; returned as it is.
            episode_start: not read.
            deterministic: False explores with probability `epsilon`.
        Returns:
            The action or actions, and `state`.
        """
        epsilon = 0.0 if deterministic else self.epsilon
        return self._answer(obs, lambda seen: self.play(seen, epsilon, self.rng)), state

    def q_values(self, obs: Any) -> Any:
        """Return the value of every discrete action, `[A]`, or `[n, A]` of a batch.

        Raises:
            InputError: the agent has no such values.
        """
        agent = self.agent
        if not isinstance(agent, Valuing):
            raise InputError(f"q_values: {type(agent).__name__} has no value of each action")
        return self._answer(obs, lambda seen: agent.q_values(self.tensor(seen))[0].cpu().numpy())

    def features(self, obs: Any) -> Any:
        """Return phi(s, a) at the greedy action a, `[D]` or `[E, D]`; of a batch, `[n, ...]`.

        Raises:
            InputError: the agent has no features.
        """
        agent = self.agent
        if not isinstance(agent, Representing):
            raise InputError(f"features: {type(agent).__name__} has none to read")

        def compute(seen: np.ndarray) -> np.ndarray:
            features = agent.features(self._batch(self.tensor(seen)))[0]
            return features[0].movedim(-2, 0).cpu().numpy()

        return self._answer(obs, compute)

    def export(self, path: str | Path) -> Path:
        """Write the greedy policy, from observation to action, and a model card `.md` beside it.

        Args:
            path: `.onnx` for ONNX, `.pt2` for `torch.export.load`, or `.safetensors` for the
                parameters alone.
        Returns:
            The file.
        Raises:
            InputError: another kind of file, or a package that is not installed.
        """
        return write(Graph(self.agent, self.adapter), path, self.about)

    # --- what evaluation calls

    def read(self, obs: Any) -> tuple[np.ndarray, bool]:
        """Return observations `[n, *obs_shape]` as the agent was trained on, and if it was one."""
        batch, is_one = read_batch(obs, self.parts)
        return self.adapter.obs(batch), is_one

    def play(self, seen: np.ndarray, epsilon: float, rng: np.random.Generator) -> np.ndarray:
        """Return the environment's own actions.

        Args:
            seen: `[n, *obs_shape]`, as the agent was trained on.
            epsilon: probability of a random action.
            rng: draws these.
        Raises:
            InputError: the agent returns actions of another shape.
        """
        actions = self.agent.act(self.tensor(seen))
        self._check_shape(actions, len(seen))
        played = self.adapter.action(actions[0].detach().cpu().numpy())
        if epsilon:
            explores = rng.random(len(played)) < epsilon
            random = random_actions(self.action_space, len(played), rng)
            played[explores] = random[explores]
        return played.astype(self.action_space.dtype, copy=False)

    def try_out(self) -> None:
        """Act once on zeros; raises what acting raises, as for an agent that cannot act at all."""
        zeros = np.zeros((1, *self.spec.obs_shape), self.spec.obs_dtype)
        self.play(zeros, 0.0, self.rng)

    def tensor(self, seen: np.ndarray) -> Tensor:
        """Return observations as the agent takes them, `[1, n, *obs_shape]`."""
        contiguous = np.require(seen, requirements=["C", "W"])  # torch warns of others
        return torch.from_numpy(contiguous)[None].to(self.agent.device)

    def _answer(self, obs: Any, compute: Callable[[np.ndarray], np.ndarray]) -> Any:
        """Compute something of observations; return it in the kind in which they were given."""
        seen, is_one = self.read(obs)
        values = compute(seen)
        answer = values[0] if is_one else values
        given = first_leaf(obs, self.parts)
        return torch.as_tensor(answer, device=given.device) if isinstance(given, Tensor) else answer

    def _batch(self, obs: Tensor) -> Batch:
        """Return states with the agent's actions as a minibatch, which features are read of."""
        action = self.agent.act(obs)
        zeros = obs.new_zeros(obs.shape[:2], dtype=torch.float32)
        return Batch(obs, action, zeros, obs, zeros, zeros + 1, zeros.long(), {})

    def _check_shape(self, actions: Tensor, n: int) -> None:
        """Raise InputError unless actions are those of one run."""
        shape = (1, n, *self.spec.action_shape)
        if actions.shape != shape:
            raise InputError(
                f"{type(self.agent).__name__}.act: actions {tuple(actions.shape)}, expected "
                f"{shape}; an agent with tensors [R, ...] outside of its learners selects the "
                "run's in one_run"
            )

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.about.get("policy", {}).items())
        return f"Policy({facts or type(self.agent).__name__})"


def check_epsilon(option: str, epsilon: float, space: Space) -> float:
    """Return a probability of random actions; check that the space has some.

    Args:
        option: its name, for messages.
        epsilon: the probability.
        space: of actions.
    Raises:
        InputError: no probability, or a Box without bounds.
    """
    check_range(option, epsilon, low=0, high=1)
    if epsilon and isinstance(space, gymnasium.spaces.Box) and not bounded(space):
        raise InputError(
            f"{option} = {epsilon}: action space {space} has no bounds to draw random actions in"
        )
    return epsilon
