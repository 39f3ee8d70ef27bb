"""Weights saved by the scripts of CleanRL and CORL: which networks they hold, under which names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from rlop.interop.parts import Contents, Part, pixel_scale, read_state_dicts
from rlop.interop.stacks import Affine, AtomMean, FirstHalf

_CLEANRL_ACTOR = r"(0\.|actor\.)?fc(\d|_mu|_mean)\."


def read_cleanrl(path: Path) -> Contents:
    """Read the weights of a CleanRL script.

    Known are the action values of `dqn*` and `c51*`, the policy and the values of `ppo*`, and the
    policies and critics of `ddpg*`, `td3*` and `sac*`, saved together or one state dict a file.

    Args:
        path: file of `torch.save`.
    Raises:
        InputError: it cannot be read.
    """
    weights = read_state_dicts(path, path)
    names = list(weights)
    start = pixel_scale(weights)

    # PPO's actor and critic have Tanh where they are networks, and share one where it sees images.
    ppo = ("actor.", "actor_mean.", "critic.")
    if any(name.startswith(ppo) and ".fc" not in name for name in names):
        actor = Part("actor", r"(network|actor|actor_mean)\.", nn.Tanh)
        value = Part("value", r"(network|critic)\.", nn.Tanh)
        return Contents(weights, (actor, value), start)

    atoms = weights.get("model_weights.atoms", weights.get("atoms"))
    q = Part("q", r"(model_weights\.)?network\.")
    if atoms is not None:
        q = replace(q, end=(AtomMean(atoms),))
    critics = [
        Part("critic_1", r"(1|qf1)\.fc\d\.", of_pairs=True),
        Part("critic_2", r"(2|qf2)\.fc\d\.", of_pairs=True),
    ]

    heads = ("fc_mu.weight", "fc_mean.weight")
    if any(name.endswith(heads) for name in names):
        scale = [w for name, w in weights.items() if name.endswith("action_scale")]
        shift = [w for name, w in weights.items() if name.endswith("action_bias")]
        end: list[nn.Module] = [nn.Tanh()]
        if scale and shift:
            end.append(Affine(scale[0], shift[0]))
        critics.append(Part("actor", _CLEANRL_ACTOR, end=tuple(end)))
    else:
        critics.append(Part("critic_1", r"fc\d\.", of_pairs=True))
    return Contents(weights, (q, *critics), start)


# The policies return means of actions in [-1, 1], before the scripts multiply by `max_action`.
CORL = (
    Part("actor", r"actor\.base_network\.", end=(FirstHalf(), nn.Tanh())),  # CQL, Cal-QL
    Part("actor", r"actor\.net\.", end=(nn.Tanh(),)),  # TD3+BC, IQL, behavior cloning
    Part("actor", r"actor\.(trunk|mu)\.", end=(nn.Tanh(),)),  # SAC-N, EDAC
    Part("actor", r"actor\._mlp\."),  # AWAC, which clips
    Part("critic_1", r"(critic_?1|qf\.q1)\.", of_pairs=True),
    Part("critic_2", r"(critic_?2|qf\.q2)\.", of_pairs=True),
    Part("value", r"vf\.v\."),
)


def read_corl(path: Path) -> Contents:
    """Read a checkpoint of a CORL script.

    Args:
        path: `checkpoint_*.pt`.
    Raises:
        InputError: it cannot be read.
    """
    return Contents(read_state_dicts(path, path), CORL)
