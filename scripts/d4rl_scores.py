"""Scores of trained policies in D4RL's own environments, which need Python 3.10: see docs/d4rl.md.

    python scripts/d4rl_scores.py export runs/hopper/checkpoint.pt policy.npz   # where rlop is
    python scripts/d4rl_scores.py play policy.npz hopper-medium-v2              # where d4rl is

`export` writes the weights of every run of a checkpoint as plain arrays: of continuous BC or CQL
without further layers. `play` needs NumPy, gym and d4rl only, and prints D4RL scores, of which 100
is an expert's.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

# Python puts this folder first, whose mujoco.py would hide the package of that name.
FOLDER = Path(__file__).resolve().parent
if sys.path and Path(sys.path[0]).resolve() == FOLDER:
    sys.path[0] = str(FOLDER.parent)

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "identity": lambda x: x,
}
TOLERANCE = 1e-4  # between actions of the agent and of the written weights


# ---- where rlop is


def export(checkpoint, out):
    """Write the policies of a checkpoint as plain arrays.

    Args:
        checkpoint: checkpoint.pt of continuous BC or CQL with R runs.
        out: npz to write: weight_i `[R, O, I]`, bias_i `[R, O]`, obs_mean and obs_scale `[S]`,
            activation, labels `[R]`.
    """
    import torch

    from rlop.training.checkpoint import load_agent
    from rlop.types import InputError

    agent, _ = load_agent(checkpoint)
    refused = InputError(
        f"{checkpoint}: expected continuous BC or CQL whose policy is a plain MLP of "
        f"{', '.join(ACTIVATIONS)}, without normalization or further layers"
    )
    spec = agent.spec
    policy = getattr(agent, "actor", None)
    layers = getattr(getattr(policy, "torso", None), "layers", None)
    if spec.n_actions is not None or layers is None or policy.torso.activation not in ACTIVATIONS:
        raise refused

    arrays = {}
    m = spec.action_shape[0]
    # The first m outputs of the last layer are the means.
    pairs = [(layer.weight, layer.bias) for layer in layers]
    pairs.append((policy.head.weight[:, :m], policy.head.bias[:, :m]))
    for number, (weight, bias) in enumerate(pairs):
        arrays[f"weight_{number}"] = weight.detach().cpu().numpy()
        arrays[f"bias_{number}"] = bias.detach().cpu().numpy()

    n_obs = int(np.prod(spec.obs_shape))
    mean, scale = spec.obs_normalizer or (np.zeros(n_obs), np.ones(n_obs))
    arrays["obs_mean"] = np.asarray(mean, np.float64)
    arrays["obs_scale"] = np.asarray(scale, np.float64)
    arrays["activation"] = np.array(policy.torso.activation)
    arrays["labels"] = np.array(agent.runs.labels, dtype=str)

    # Any other part of the network shows here.
    runs = len(agent.runs)
    raw = np.random.default_rng(0).normal(size=(64, n_obs))
    seen = torch.as_tensor((raw - arrays["obs_mean"]) / arrays["obs_scale"], dtype=torch.float32)
    expected = (
        agent.act(seen.reshape(1, 64, *spec.obs_shape).expand(runs, 64, *spec.obs_shape))
        .cpu()
        .numpy()
    )
    for run in range(runs):
        if np.abs(act(arrays, run, raw) - expected[run]).max() > TOLERANCE:
            raise refused

    with open(out, "wb") as file:
        np.savez(file, **arrays)
    print(f"{out}: {runs} policies of {len(pairs)} layers")


# ---- where d4rl is


def act(arrays, run, obs):
    """Return the actions of one run in [-1, 1], `[n, S]` to `[n, m]`."""
    activate = ACTIVATIONS[str(arrays["activation"])]
    x = (obs - arrays["obs_mean"]) / arrays["obs_scale"]
    last = sum(key.startswith("weight_") for key in arrays) - 1
    for number in range(last + 1):
        x = x @ arrays[f"weight_{number}"][run].T + arrays[f"bias_{number}"][run]
        x = np.tanh(x) if number == last else activate(x)
    return x


def play_episode(env, arrays, run):
    """Return the undiscounted return of one episode."""
    low, high = env.action_space.low, env.action_space.high
    obs, done, total = env.reset(), False, 0.0
    while not done:
        share = (np.clip(act(arrays, run, np.asarray(obs)[None])[0], -1, 1) + 1) / 2
        obs, reward, done, _ = env.step(low + share * (high - low))
        total += float(reward)
    return total


def play(file, name, episodes, seed):
    """Print return and D4RL score of every run."""
    try:
        import d4rl  # noqa: F401  # registers the environments
        import gym

        env = gym.make(name)
    except Exception as error:  # without MuJoCo 2.1 d4rl raises a plain Exception
        reason = " ".join(str(error).split())
        raise SystemExit(f"d4rl_scores: {name}: {reason}; see docs/d4rl.md") from error
    try:
        with np.load(file, allow_pickle=False) as opened:
            arrays = dict(opened)
        labels = arrays["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"d4rl_scores: {file}: not written by export ({error})") from error

    for run, label in enumerate(labels):
        env.seed(1000 * seed + run)
        returns = np.array([play_episode(env, arrays, run) for _ in range(episodes)])
        score = 100 * env.get_normalized_score(returns.mean())
        print(
            f"{label}: return {returns.mean():.6g} ({returns.min():.6g} to {returns.max():.6g} "
            f"in {episodes} episodes), D4RL score {score:.2f}"
        )


def main():
    """Read the arguments and do one of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    writes = commands.add_parser("export", help="write the policies of a checkpoint")
    writes.add_argument("checkpoint")
    writes.add_argument("out", help="npz to write")

    plays = commands.add_parser("play", help="play them in D4RL's environment")
    plays.add_argument("file", help="npz of export")
    plays.add_argument("name", help="data set, such as hopper-medium-v2")
    plays.add_argument("--episodes", type=int, default=10, help="of each run")
    plays.add_argument("--seed", type=int, default=0, help="of the environment")

    args = parser.parse_args()
    if args.command == "play":
        play(args.file, args.name, args.episodes, args.seed)
        return 0

    from rlop.types import InputError

    try:
        export(args.checkpoint, args.out)
    except InputError as error:
        print(f"d4rl_scores: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
