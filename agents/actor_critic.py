"""What agents with critics Q_e(s, a) and a policy share."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from rlop.agent import Agent
from rlop.data.dataset import Dataset
from rlop.losses import tanh_gaussian, td
from rlop.nets import MLP, Critics, GaussianPolicy, reinit_runs, reset_runs
from rlop.optim.learner import Learner
from rlop.optim.rmd import relaxed
from rlop.types import Batch, InputError

from .critic_heads import make_critic_head
from .networks import make_critics, make_log_weight, make_second_torso
from .option_groups import ActorCriticOptions, DeterministicActorOptions, SoftActorOptions

Moments = tuple[Tensor, Tensor]  # mean and log std of the policy at B states, [R, B, m] each


class ActorCritic(Agent):
    """Base of agents for vectors of actions; a subclass writes `make_learners` and `losses`.

    Of its learners, the first must hold the critics, and one must be named `policy`. All networks
    are drawn by one call of `draw` before their learners are made:

        critics, policy = self.make_critics(), self.make_policy()
        self.draw(critics, policy)

    A value function V(s) is `QNetwork(self.make_torso(), 1, len(self.runs))`.
    """

    config: DeterministicActorOptions
    logged_norms = ("policy",)

    def check(self) -> None:
        """Make the head; raise InputError unless actions and observations are vectors."""
        self.head = make_critic_head(self.config.head)
        self.check_obs()
        self.check_actions()

    def check_obs(self) -> None:
        """Raise InputError unless observations are vectors."""
        if len(self.spec.obs_shape) > 1:
            raise InputError(
                f"{self.name}: expected observations of shape (n,), the data has "
                f"{self.spec.obs_shape}; images are read by DQN and BC alone"
            )

    def check_actions(self) -> None:
        """Raise InputError unless actions are vectors."""
        if len(self.spec.action_shape) == 1:
            return
        actions = f"of shape {self.spec.action_shape}"
        if self.spec.n_actions is not None:
            actions = f"{self.spec.n_actions} discrete"
        raise InputError(
            f"{self.name}: expected continuous actions of shape (m,), the data has {actions}"
        )

    def make_critics(self) -> Critics:
        """Build the critics that the options describe; their parameters are NaN until `draw`."""
        config = self.config
        return make_critics(self.spec, config, len(self.runs), config.n_critics, self.head)

    def make_torso(self) -> MLP:
        """Build the torso of the policy, or of another network of states; NaN until `draw`."""
        return make_second_torso(self.spec, self.config, self.config.policy_hidden, len(self.runs))

    def make_policy(self, log_std_affine: tuple[float, float] | None = None) -> GaussianPolicy:
        """Build a Gaussian policy that the options describe; its parameters are NaN until `draw`.

        Args:
            log_std_affine: see `rlop.nets.GaussianPolicy`.
        """
        n_dims = self.spec.action_shape[0]
        assert isinstance(self.config, ActorCriticOptions)
        limits = self.config.log_std_range
        return GaussianPolicy(self.make_torso(), n_dims, len(self.runs), limits, log_std_affine)

    def draw(self, critics: nn.Module, *others: nn.Module) -> None:
        """Draw the parameters of every run from its seed.

        All networks are drawn from one stream, so that no two start from the same numbers.
        """
        seeds, init = self.runs.seeds, self.config.init
        reset_runs(nn.ModuleList([critics, *others]), seeds)

        other_init = "small_head" if init == "orthogonal" else init
        networks: list[tuple[nn.Module, str]] = [(critics, init)]
        networks += [(network, other_init) for network in others]
        reinit_runs(networks, seeds)

    def td_loss(self, z: Tensor, particles: Tensor, batch: Batch) -> Tensor:
        """Return the TD loss of each run, summed over critics: `[R]`.

        Args:
            z: the critics' outputs at the data's actions, `[R, E, B, K]`.
            particles: of the target, `[R, B]` or `[R, B, J]`, see `agents/critic_heads.py`.
            batch: of the update.
        """
        of_each = particles.unsqueeze(1).expand(-1, z.shape[1], *particles.shape[1:])
        loss = self.head.loss(z, of_each, None, lambda error: td.mse(relaxed(error, batch)))
        return loss.mean(-1).sum(-1)

    @property
    def critics(self) -> Critics:
        """The critics that are trained."""
        return cast(Critics, self.main.online)

    @property
    def target(self) -> Critics:
        """Their target network."""
        return self.main.target

    @property
    def actor(self) -> nn.Module:
        """The policy's network."""
        return self.learners["policy"].online

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data set as it is, after checking that its vectors of actions lie in [-1, 1].

        Raises:
            InputError: naming the range of the data.
        """
        if self.spec.n_actions is None:
            tanh_gaussian.check_actions(data.action, data.name)
        return super().prepare(data)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """Return tanh of the policy's mean: `[R, B, *obs_shape]` to `[R, B, m]`."""
        return torch.tanh(self.actor(obs)[0])

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return online phi(s, a) and phi(s', a'), `[R, E, B, D]` each.

        Here a' is the tanh of the policy's mean.
        """
        features = self.critics(batch.obs, batch.action)[0]
        next_features = self.critics(batch.next_obs, self.act(batch.next_obs))[0]
        return features, next_features

    @property
    def head_weight(self) -> Tensor:
        """Weight of the critics' linear heads, `[R, E, 1, D]`."""
        return self.critics.head.weight


class SoftActorCritic(ActorCritic):
    """Base of agents whose policy's entropy has a trained weight c: the learner `entropy`."""

    config: SoftActorOptions

    def entropy_learner(self) -> Learner:
        """Return the learner of the entropy's weight."""
        weight = make_log_weight(math.log(self.config.entropy_coef), len(self.runs))
        return self.adam_learner(weight, self.hyper["entropy_lr"])

    def entropy_loss(self, log_pi: Tensor) -> Tensor:
        """Return the loss of the entropy's weight, `[R]`.

        The weight grows while the entropy is below its target.
        """
        (n_dims,) = self.spec.action_shape
        error = log_pi.detach().mean(-1) + self.hyper["target_entropy"] * n_dims

        weight = self.log_weight("entropy")
        if self.config.entropy_loss == "exp":
            weight = weight.exp()
        return -weight * error

    def log_weight(self, name: str) -> Tensor:
        """Return the logarithm of a trained weight, `[R]`.

        Args:
            name: of its learner, as `entropy`.
        """
        return self.learners[name].parameters["log"].squeeze(-1)

    @property
    def entropy_coef(self) -> Tensor:
        """Weight c of the entropy, `[R]`, detached."""
        return self.log_weight("entropy").detach().exp()
