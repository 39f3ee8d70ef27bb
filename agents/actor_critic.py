"""What agents with critics Q_e(s, a) and a policy share."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from rlop.agent import Agent, Losses, Noise, NoiseShapes
from rlop.data.dataset import Dataset
from rlop.losses import tanh_gaussian, td
from rlop.nets import (
    MLP,
    Critics,
    Encoder,
    GaussianPolicy,
    ImageOptions,
    random_shift,
    reinit_runs,
    reset_runs,
)
from rlop.optim.learner import Learner
from rlop.optim.rmd import relaxed
from rlop.regularizers import dr3
from rlop.types import Batch, InputError, Metrics, TDContext

from .critic_heads import make_critic_head
from .networks import make_critics, make_log_weight, make_second_torso
from .option_groups import ActorCriticOptions, DeterministicActorOptions, SoftActorOptions

Moments = tuple[Tensor, Tensor]  # mean and log std of the policy at B states, [R, B, m] each


class ActorCritic(Agent):
    """Base of agents for vectors of actions; a subclass writes `make_learners` and `losses`.

    Of its learners, the first must hold the critics, and one must be named `policy`. All networks
    are drawn by one call of `draw` before their learners are made:

        critics, policy, encoder = self.make_critics(), self.make_policy(), self.make_encoder()
        self.draw(critics, policy, *encoder)

    A value function V(s) is `QNetwork(self.make_torso(), 1, len(self.runs))`.

    Images become vectors by an encoder, which all other networks read, target networks too. It
    descends the critics' loss alone; no gradient of the policy reaches it.
    """

    config: DeterministicActorOptions
    logged_norms = ("policy", "encoder")

    def check(self) -> None:
        """Make the head; raise InputError unless actions and observations can be read."""
        self.head = make_critic_head(self.config.head)
        self.check_obs()
        self.check_actions()

    def check_obs(self) -> None:
        """Note what the networks read; raise InputError unless that is vectors or images."""
        shape, images = self.spec.obs_shape, self.config.images
        self.images: ImageOptions | None = None
        self.inputs = self.spec  # of the data, with observations as critics and policy read them
        if len(shape) == 3:
            self.images = images or ImageOptions()
            self.inputs = replace(self.spec, obs_shape=(self.images.width,))
        elif images is not None or len(shape) > 1:
            wanted = "three axes" if images is not None else "one axis, or images with three"
            raise InputError(
                f"{self.name}: expected observations with {wanted}, the data has {shape}"
            )
        self.has_encoder_dr3 = any(self.runs.values.get("images.dr3", ()))

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
        return make_critics(self.inputs, config, len(self.runs), config.n_critics, self.head)

    def make_torso(self) -> MLP:
        """Build the torso of the policy, or of another network of states; NaN until `draw`."""
        config = self.config
        return make_second_torso(self.inputs, config, config.policy_hidden, len(self.runs))

    def make_encoder(self) -> list[Encoder]:
        """Build the encoder of images, or none for vectors; its parameters are NaN until `draw`."""
        if self.images is None:
            return []
        return [Encoder(self.spec, self.images, len(self.runs))]

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

        Raises:
            InputError: images without the encoder of `make_encoder`.
        """
        if self.images is not None and not any(isinstance(other, Encoder) for other in others):
            raise InputError(
                f"{self.name}: reads no images, the data has {self.spec.obs_shape}; expected an "
                "agent that draws self.make_encoder()"
            )
        seeds, init = self.runs.seeds, self.config.init
        reset_runs(nn.ModuleList([critics, *others]), seeds)

        other_init = "small_head" if init == "orthogonal" else init
        networks: list[tuple[nn.Module, str]] = [(critics, init)]
        networks += [(other, other_init) for other in others if not isinstance(other, Encoder)]
        reinit_runs(networks, seeds)

    def encoder_learner(self, encoder: list[Encoder]) -> dict[str, Learner]:
        """Return the learner of the encoder by its name, or none for vectors."""
        return {"encoder": self.adam_learner(encoder[0], self.hyper["lr"])} if encoder else {}

    def make_noise(self) -> NoiseShapes:
        """Return kind and shape of the random numbers that one update needs."""
        noise = super().make_noise()
        if self.images is None or not self.images.random_shift:
            return noise
        shape = (self.config.batch_size, 2)
        return noise | {"shift": ("uniform", shape), "next_shift": ("uniform", shape)}

    def encode(self, obs: Tensor) -> Tensor:
        """Return what critics and policy read of observations: `[R, B, *obs_shape]` to `[R, B, S]`.

        Vectors stay as they are.
        """
        return obs if self.images is None else self.learners["encoder"].online(obs)

    def encoded(self, batch: Batch, noise: Noise) -> tuple[Batch, Batch]:
        """Return the batch of an update with images shifted and encoded, or as it is.

        Returns:
            The batch of the critics, through which the encoder gets its gradient: that of s, and of
            s' where a penalty reads it. Then that of all other networks, without.
        """
        if self.images is None:
            return batch, batch
        obs, next_obs = batch.obs, batch.next_obs
        if self.images.random_shift:
            pad, axis = self.images.random_shift, self.images.height_axis
            obs = random_shift(obs, noise["shift"], pad, axis)
            next_obs = random_shift(next_obs, noise["next_shift"], pad, axis)

        here, there = self.encode(obs), self.encode(next_obs)
        seen = batch._replace(obs=here.detach(), next_obs=there.detach())
        reads_next = self.has_encoder_dr3 or "next_features" in self.penalties.needs
        return seen._replace(obs=here, next_obs=there if reads_next else seen.next_obs), seen

    def add_penalties(
        self, loss: Tensor, batch: Batch, context: TDContext
    ) -> tuple[Tensor, Metrics]:
        """Return the loss `[R]` with all penalties, and each of them by its metric.

        Args:
            loss: of the critics, `[R]`.
            batch: of the critics, see `encoded`.
            context: of the critics.
        """
        total, penalties = self.penalties.add_to(loss, context)
        if self.has_encoder_dr3:
            penalty = dr3(batch.obs, batch.next_obs, 1 - batch.terminated)
            total = total + self.hyper["images.dr3"] * penalty
            penalties["reg/images.dr3"] = penalty
        return total, penalties

    def encoder_loss(self, critic_loss: Tensor) -> Losses:
        """Return the encoder's loss, the critics' own, by its name; none for vectors."""
        return {} if self.images is None else {"encoder": critic_loss}

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
        """Return greedy actions: `[R, B, *obs_shape]` to `[R, B, m]`."""
        return self.greedy(self.encode(obs))

    @torch.no_grad()
    def greedy(self, seen: Tensor) -> Tensor:
        """Return tanh of the policy's mean at what `encode` returns: `[R, B, m]`."""
        return torch.tanh(self.actor(seen)[0])

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return online phi(s, a) and phi(s', a'), `[R, E, B, D]` each.

        Here a' is the tanh of the policy's mean.
        """
        obs, next_obs = self.encode(batch.obs), self.encode(batch.next_obs)
        features = self.critics(obs, batch.action)[0]
        next_features = self.critics(next_obs, self.greedy(next_obs))[0]
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
