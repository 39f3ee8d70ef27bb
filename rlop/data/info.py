"""What is in a data set, for a person."""

from __future__ import annotations

import numpy as np

from rlop.data.dataset import Dataset


def summary(data: Dataset) -> str:
    """A few lines for a person: sizes, spaces, returns, how episodes end, how often each action was taken."""
    spec, lengths = data.spec, data.episode_lengths()
    actions = f"continuous {spec.action_shape}" if spec.n_actions is None else f"{spec.n_actions} discrete"
    lines = [
        f"{data.name}: {len(data)} transitions in {data.n_episodes} episodes of {lengths.mean():.1f} on average "
        f"({lengths.min()} to {lengths.max()})",
        f"observations {spec.obs_shape} {spec.obs_dtype}, {actions} actions, environment {spec.env_id}",
        f"ends: {data.terminated[data.end].sum()} terminated, {data.truncated[data.end].sum()} truncated",
    ]
    if data.discount is None:
        returns = data.episode_returns()
        lines.append(f"return: mean {returns.mean():.4g}, {returns.min():.4g} to {returns.max():.4g}")
    if spec.n_actions is not None:
        shares = np.bincount(data.action, minlength=spec.n_actions) / len(data)
        lines.append("action shares: " + ", ".join(f"{a}: {share:.1%}" for a, share in enumerate(shares)))
    return "\n".join(lines)
