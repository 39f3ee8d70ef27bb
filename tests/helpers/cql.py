"""The losses of continuous CQL once more, in float64 NumPy, written from the formulas alone."""

import numpy as np


def mlp(parameters, x):
    """Return features and outputs of a network with ReLU layers."""
    layer = 0
    while f"torso.layers.{layer}.weight" in parameters:
        weight = parameters[f"torso.layers.{layer}.weight"]
        bias = parameters[f"torso.layers.{layer}.bias"]
        x = np.maximum(x @ weight.T + bias, 0)
        layer += 1

    return x, x @ parameters["head.weight"].T + parameters["head.bias"]


def log_density(mean, log_std, raw):
    """Return log pi of the action tanh(raw)."""
    unit = (raw - mean) / np.exp(log_std)
    gauss = -0.5 * unit**2 - log_std - 0.5 * np.log(2 * np.pi)
    return (gauss - np.log(1 - np.tanh(raw) ** 2)).sum(-1)


def arrays_of(module, run):
    """Return the parameters of one run in float64."""
    arrays = {}
    for name, parameter in module.named_parameters():
        arrays[name] = parameter[run].detach().double().numpy()
    return arrays


class Twin:
    """Losses of one run of a CQL agent.

    Args:
        agent: its weights are read once.
        run: row of the run.
        batch: `(obs, action, reward, next_obs, terminated, discount)` of that run, NumPy.
        noise: name -> random numbers of that run, NumPy.
    """

    def __init__(self, agent, run, batch, noise):
        self.config = agent.config
        self.online = arrays_of(agent.critics, run)
        self.target = arrays_of(agent.target, run)
        self.policy = arrays_of(agent.actor, run)
        self.hyper = {name: values[run].double().item() for name, values in agent.hyper.items()}
        self.log_entropy_coef = agent.log_weight("entropy")[run].item()
        self.log_multiplier = 0.0
        if agent.config.lagrange != "off":
            self.log_multiplier = agent.log_weight("multiplier")[run].item()

        self.obs, self.action, self.reward, self.next_obs, terminated, self.discount = batch
        self.alive = 1 - terminated
        self.noise = noise
        self.moments = self.moments_at(self.obs)
        self.next_moments = self.moments_at(self.next_obs)

    def critic(self, parameters, critic):
        """Return the parameters of one critic."""
        return {name: values[critic] for name, values in parameters.items()}

    def values(self, parameters, obs, action):
        """Return Q of every critic, `[E, ...]`."""
        lead = action.shape[:-1]
        pairs = np.concatenate([np.broadcast_to(obs, (*lead, obs.shape[-1])), action], -1)
        values = []
        for critic in range(self.config.n_critics):
            outputs = mlp(self.critic(parameters, critic), pairs)[1]
            values.append(outputs[..., 0])

        return np.stack(values)

    def moments_at(self, obs):
        """Return mean and log standard deviation of the policy."""
        mean, log_std = np.split(mlp(self.policy, obs)[1], 2, -1)
        if "affine" in self.policy:
            scale, shift = self.policy["affine"]
            log_std = scale * log_std + shift

        return mean, log_std.clip(*self.config.log_std_range)

    def draw(self, moments, unit):
        """Return the actions before tanh of N draws a state, `[B, N, m]`, and their log pi."""
        mean, log_std = (moment[:, None] for moment in moments)
        raw = mean + np.exp(log_std) * unit
        return raw, log_density(mean, log_std, raw)

    # --- critics

    def backed_up(self):
        """Return the backed-up action before tanh and its value, state by state."""
        states, dims = self.action.shape
        unit = self.noise.get("backup", np.zeros((states, 1, dims)))
        raw, log_pi = self.draw(self.next_moments, unit)
        q = self.values(self.target, self.next_obs[:, None], np.tanh(raw))  # [E, B, K]

        actions = []
        values = np.empty(states)
        for state in range(states):
            of_state = q[:, state]  # [E, K]
            if self.config.backup == "max_then_min":
                lowest = of_state.max(1).argmin()
                best = of_state[lowest].argmax()
                values[state] = of_state.max(1).min()
            else:
                best = of_state.min(0).argmax()
                values[state] = of_state.min(0).max()
            if self.config.backup_entropy:
                values[state] -= np.exp(self.log_entropy_coef) * log_pi[state, best]
            actions.append(raw[state, best])

        return np.stack(actions), values

    def candidate_values(self, q):
        """Return what the log-sum-exp of the conservative term is taken of, `[E, B, 3N(+1)]`."""
        obs = self.obs[:, None]
        uniform = 2 * self.noise["random"] - 1
        here, log_here = self.draw(self.moments, self.noise["here"])
        there, log_there = self.draw(self.next_moments, self.noise["there"])
        q_uniform = self.values(self.online, obs, uniform)
        q_here = self.values(self.online, obs, np.tanh(here))
        q_there = self.values(self.online, obs, np.tanh(there))

        if self.config.conservative == "rho":
            return np.concatenate([q_uniform, q[..., None], q_there, q_here], -1)
        log_uniform = uniform.shape[-1] * np.log(0.5)
        parts = [q_uniform - log_uniform, q_there - log_there, q_here - log_here]
        return np.concatenate(parts, -1)

    def conservative_diff(self, q):
        """Return the clipped gap of each critic, clipped state by state before the mean, `[E]`."""
        temperature = self.hyper["temperature"]
        candidates = self.candidate_values(q)
        gap = temperature * np.log(np.exp(candidates / temperature).sum(-1)) - q

        low, high = self.config.clip_diff_min, self.config.clip_diff_max
        if low is not None:
            gap = np.maximum(gap, low)
        if high is not None:
            gap = np.minimum(gap, high)
        return gap.mean(1)

    def penalty(self, diff):
        """Return the weighted conservative term of each critic."""
        alpha, gap = self.hyper["alpha"], self.hyper["gap"]
        weight = min(np.exp(self.log_multiplier), 1e6)
        if self.config.lagrange == "off":
            return alpha * diff
        if self.config.lagrange == "official":
            return weight * (alpha * diff - gap)
        return weight * alpha * (diff - gap)

    def dr3(self, next_raw):
        """Return the DR3 penalty, summed over critics."""
        pairs = np.concatenate([self.obs, self.action], -1)
        next_pairs = np.concatenate([self.next_obs, np.tanh(next_raw)], -1)
        total = 0.0
        for critic in range(self.config.n_critics):
            parameters = self.critic(self.online, critic)
            features, next_features = mlp(parameters, pairs)[0], mlp(parameters, next_pairs)[0]
            dots = (features * next_features).sum(-1) * self.alive
            total += dots.mean()

        return total

    # --- policy and entropy

    def policy_losses(self, clones):
        """Return the losses of the policy and of the entropy's weight."""
        mean, log_std = self.moments
        raw = mean + np.exp(log_std) * self.noise["policy"]
        log_pi = log_density(mean, log_std, raw)
        coef = np.exp(self.log_entropy_coef)

        objective = self.values(self.online, self.obs, np.tanh(raw)).min(0)
        if clones:
            inside = self.action.clip(-1 + 1e-6, 1 - 1e-6)
            objective = log_density(mean, log_std, np.arctanh(inside))

        error = (log_pi + self.hyper["target_entropy"] * self.action.shape[1]).mean()
        weight = self.log_entropy_coef if self.config.entropy_loss == "log" else coef
        return (coef * log_pi - objective).mean(), -weight * error

    def losses(self, steps):
        """Return every loss and its parts, after this many steps."""
        next_raw, next_value = self.backed_up()
        target = self.reward + self.hyper["gamma"] * self.discount * self.alive * next_value
        q = self.values(self.online, self.obs, self.action)
        td_loss = ((q - target) ** 2).mean(1).sum()

        diff = self.conservative_diff(q)
        penalty = self.penalty(diff)
        policy, entropy = self.policy_losses(clones=steps < self.config.bc_steps)
        return {
            "td": td_loss,
            "conservative": diff.sum(),
            "critics": td_loss + penalty.sum(),
            "policy": policy,
            "entropy": entropy,
            "multiplier": -penalty.mean(),
            "dr3": self.dr3(next_raw),
        }
