"""The losses of SAC-N and EDAC once more, in float64 on the weights of one run, by the formulas."""

import math

import torch

from helpers.twins import critic_of, leaves_of, mlp


class Twin:
    """Losses of one run.

    Args:
        agent: its weights are read once.
        run: row of the run.
        batch: of all runs.
        noise: of all runs.
    """

    def __init__(self, agent, run, batch, noise):
        self.config = agent.config
        self.hyper = {name: values[run].double().item() for name, values in agent.hyper.items()}
        self.critics = leaves_of(agent.critics, run)
        self.target = leaves_of(agent.target, run)
        self.policy = leaves_of(agent.actor, run)
        self.entropy = leaves_of(agent.learners["entropy"].online, run)

        self.obs, self.next_obs = batch.obs[run].double(), batch.next_obs[run].double()
        self.action, self.reward = batch.action[run].double(), batch.reward[run].double()
        self.kept = (1 - batch.terminated[run].double()) * batch.discount[run].double()
        self.noise = {name: drawn[run].double() for name, drawn in noise.items()}

    def read(self, parameters, critic, obs, action):
        """Return features and values of one critic, `[B, D]` and `[B]`."""
        features, q = mlp(critic_of(parameters, critic), torch.cat([obs, action], -1))
        return features, q[:, 0]

    def smallest(self, parameters, obs, action):
        """Return the smallest value of all critics, `[B]`."""
        critics = range(self.config.n_critics)
        return torch.stack([self.read(parameters, e, obs, action)[1] for e in critics]).amin(0)

    def draw(self, obs, normal):
        """Return actions and their log-densities."""
        mean, log_std = mlp(self.policy, obs)[1].chunk(2, -1)
        log_std = log_std.clamp(*self.config.log_std_range)
        raw = mean + log_std.exp() * normal
        gauss = -0.5 * normal**2 - log_std - 0.5 * math.log(2 * math.pi)
        return torch.tanh(raw), (gauss - torch.log(1 - torch.tanh(raw) ** 2)).sum(-1)

    def losses(self, dr3):
        """Return the loss of every network.

        Args:
            dr3: coefficient of this penalty in the critics' loss.
        """
        weight = self.entropy["log"].detach().exp()
        there, log_there = self.draw(self.next_obs, self.noise["backup"])
        there = there.detach()
        value = self.smallest(self.target, self.next_obs, there) - weight * log_there
        target = (self.reward + self.hyper["gamma"] * self.kept * value).detach()

        critics, units = torch.zeros((), dtype=torch.float64), []
        for critic in range(self.config.n_critics):
            action = self.action.clone().requires_grad_()
            features, q = self.read(self.critics, critic, self.obs, action)
            (slope,) = torch.autograd.grad(q.sum(), action, create_graph=True)
            units.append(slope / (slope.norm(dim=-1, keepdim=True) + 1e-10))
            next_features = self.read(self.critics, critic, self.next_obs, there)[0]
            penalty = ((features * next_features).sum(-1) * (self.kept > 0)).mean()
            critics = critics + ((q - target) ** 2).mean() + dr3 * penalty
        for i, first in enumerate(units):
            for j, second in enumerate(units):
                if i != j:
                    pair = (first * second).sum(-1).mean() / (len(units) - 1)
                    critics = critics + self.hyper["eta"] * pair

        action, log_pi = self.draw(self.obs, self.noise["policy"])
        q = self.smallest(self.critics, self.obs, action)
        error = log_pi.detach().mean() + self.hyper["target_entropy"] * self.action.shape[-1]
        return {
            "critics": critics,
            "policy": (weight * log_pi - q).mean(),
            "entropy": (-self.entropy["log"] * error).sum(),
        }
