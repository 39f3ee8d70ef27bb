"""The losses of ReBRAC once more, in float64 on the weights of one run, by the paper's formulas."""

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
        self.target_policy = leaves_of(agent.learners["policy"].target, run)

        self.obs, self.next_obs = batch.obs[run].double(), batch.next_obs[run].double()
        self.action, self.reward = batch.action[run].double(), batch.reward[run].double()
        self.next_action = batch.extra["next_action"][run].double()
        self.kept = (1 - batch.terminated[run].double()) * batch.discount[run].double()
        self.noise = noise["action"][run].double()

    def values(self, parameters, obs, action):
        """Return features and values of every critic, `[E, B, D]` and `[E, B]`."""
        features, values = [], []
        for critic in range(self.config.n_critics):
            phi, q = mlp(critic_of(parameters, critic), torch.cat([obs, action], -1))
            features.append(phi)
            values.append(q[:, 0])
        return torch.stack(features), torch.stack(values)

    def losses(self, dr3):
        """Return the loss of every network.

        Args:
            dr3: coefficient of this penalty in the critics' loss.
        """
        clip = self.config.noise_clip
        shift = torch.clamp(self.hyper["policy_noise"] * self.noise, -clip, clip)
        there = torch.tanh(mlp(self.target_policy, self.next_obs)[1]).detach() + shift
        there = torch.clamp(there, -1.0, 1.0)
        value = self.values(self.target, self.next_obs, there)[1].min(0).values.detach()
        value = value - self.hyper["critic_bc"] * ((there - self.next_action) ** 2).sum(-1)
        target = self.reward + self.hyper["gamma"] * self.kept * value

        features, q = self.values(self.critics, self.obs, self.action)
        next_features = self.values(self.critics, self.next_obs, there)[0]
        penalty = ((features * next_features).sum(-1) * (self.kept > 0)).mean(-1)
        critics = (((q - target) ** 2).mean(-1) + dr3 * penalty).sum()

        action = torch.tanh(mlp(self.policy, self.obs)[1])
        q = self.values(self.critics, self.obs, action)[1]
        q = q.min(0).values if self.config.policy_q == "min" else q[0]
        distance = ((action - self.action) ** 2).sum(-1).mean()
        if self.config.bc_distance == "mean":
            distance = distance / self.action.shape[-1]
        scale = q.abs().mean().detach() if self.config.normalize_q else 1.0
        policy = self.hyper["policy_bc"] * distance - self.hyper["q_weight"] * q.mean() / scale
        return {"critics": critics, "policy": policy}
