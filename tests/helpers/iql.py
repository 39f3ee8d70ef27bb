"""The losses of IQL once more, in float64 on the weights of one run, from the paper's formulas."""

import math

import torch

from helpers.twins import critic_of, leaves_of, mlp


class Twin:
    """Losses of one run.

    Args:
        agent: its weights are read once.
        run: row of the run.
        batch: of all runs.
    """

    def __init__(self, agent, run, batch):
        self.config = agent.config
        self.name = agent.policy_name
        self.hyper = {name: values[run].double().item() for name, values in agent.hyper.items()}
        self.critics = leaves_of(agent.critics, run)
        self.target = leaves_of(agent.target, run)
        self.value = leaves_of(agent.learners["value"].online, run)
        self.policy = leaves_of(agent.learners["policy"].online, run)

        self.obs, self.next_obs = batch.obs[run].double(), batch.next_obs[run].double()
        self.action = batch.action[run]
        self.reward = batch.reward[run].double()
        self.kept = (1 - batch.terminated[run].double()) * batch.discount[run].double()

    def read(self, parameters, critic, obs, action):
        """Return features and values of one critic, `[B, D]` and `[B]`."""
        own = critic_of(parameters, critic)
        if self.name != "categorical":
            features, outputs = mlp(own, torch.cat([obs, action.double()], -1))
            return features, outputs[:, 0]
        features, outputs = mlp(own, obs)
        return features, outputs[torch.arange(len(obs)), action]

    def mean(self, obs):
        """Return the policy's mean before tanh, or its logits."""
        outputs = mlp(self.policy, obs)[1]
        return outputs.chunk(2, -1)[0] if self.name == "squashed" else outputs

    def greedy(self, obs):
        """Return the policy's greedy actions, without gradient."""
        mean = self.mean(obs).detach()
        return mean.argmax(-1) if self.name == "categorical" else torch.tanh(mean)

    def log_likelihood(self):
        """Return what the policy's loss weighs, state by state."""
        outputs = mlp(self.policy, self.obs)[1]
        if self.name == "categorical":
            return torch.log(torch.softmax(outputs, -1))[torch.arange(len(outputs)), self.action]
        if self.name == "deterministic":
            return -((torch.tanh(outputs) - self.action) ** 2).sum(-1)

        if self.name == "gaussian":
            log_std = self.policy["log_std"].clamp(*self.config.log_std_range)
            density = torch.distributions.Normal(torch.tanh(outputs), log_std.exp())
            return density.log_prob(self.action.double()).sum(-1)

        mean, log_std = outputs.chunk(2, -1)
        raw = torch.atanh(self.action.double().clamp(-1 + 1e-6, 1 - 1e-6))
        unit = (raw - mean) / log_std.clamp(*self.config.log_std_range).exp()
        gauss = -0.5 * unit**2 - log_std - 0.5 * math.log(2 * math.pi)
        return (gauss - torch.log(1 - torch.tanh(raw) ** 2)).sum(-1)

    def losses(self, dr3):
        """Return the loss of every network.

        Args:
            dr3: coefficient of this penalty in the critics' loss.
        """
        lagging = []
        for critic in range(self.config.n_critics):
            lagging.append(self.read(self.target, critic, self.obs, self.action)[1].detach())
        value = mlp(self.value, self.obs)[1][:, 0]
        error = torch.stack(lagging).min(0).values - value
        weight = (self.hyper["expectile"] - (error < 0).double()).abs()

        next_value = mlp(self.value, self.next_obs)[1][:, 0].detach()
        target = self.reward + self.hyper["gamma"] * self.kept * next_value
        critics = torch.zeros((), dtype=torch.float64)
        for critic in range(self.config.n_critics):
            features, q = self.read(self.critics, critic, self.obs, self.action)
            there = self.read(self.critics, critic, self.next_obs, self.greedy(self.next_obs))[0]
            penalty = (features * there).sum(-1) * (self.kept > 0)
            critics = critics + ((q - target) ** 2).mean() + dr3 * penalty.mean()

        factor = torch.exp(self.hyper["inverse_temperature"] * error.detach())
        factor = factor.clamp_max(self.config.max_weight)
        return {
            "critics": critics,
            "value": (weight * error**2).mean(),
            "policy": -(factor * self.log_likelihood()).mean(),
        }
