"""Every option that an agent accepts changes its training, or is refused by one line."""

import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.training import parameters_of
from rlop.agents import BC, CQL, DQN, EDAC, IQL, NeuralTD, ReBRAC

import rlop
from rlop.agent import Agent
from rlop.nets import ACTIVATIONS
from rlop.types import InputError

RECIPE = Path(__file__).resolve().parents[1] / "docs" / "howto" / "agent.md"
STEPS = 4


def agent_of_the_recipe() -> type[Agent]:
    """Import the recipe of an agent."""
    code = re.search(r"```python\n(# my_agents\.py\n.*?)```", RECIPE.read_text(), re.DOTALL)[1]
    module = ModuleType("my_agents")
    sys.modules["my_agents"] = module
    exec(compile(code, "agent.md", "exec"), module.__dict__)
    return module.FittedQ


LISTED = (DQN, CQL, IQL, ReBRAC, EDAC, BC, NeuralTD, agent_of_the_recipe())
CONTINUOUS = (CQL, IQL, ReBRAC, EDAC)
AGENTS = {agent.__name__: agent for agent in LISTED}
SMALL = {
    "hidden": (16, 16),
    "batch_size": 8,
    "target_period": 2,
    "policy_hidden": (16,),
    "layer_norm": False,
}
LAGRANGE = {"lagrange": "official"}

# Refused on vectors, or on discrete actions.
NEED_OTHER_DATA = (
    "behavior",
    "network",
    "preset",
    "log_std_range",
    "images",
    "label_noise",
    "logit_adjustment",
)

# Option -> other values; for an option that needs another one, {option: value, needed: value}.
CHANGES: dict[str, list[Any]] = {
    "activation": ["tanh"],
    "action_samples": [3],
    "adam_betas": [(0.5, 0.5)],
    "adam_eps": [0.1],
    "alpha": [0.7],
    "alpha_lr": [{"alpha_lr": 0.1, **LAGRANGE}],
    "backup": [
        {"backup": "double", "lr": 0.05, "target_period": 7},  # the networks must differ
        *("sarsa", "behavior", "mc", "mean", "max_then_min", "min_then_max"),
    ],
    "backup_entropy": [True],
    "backup_samples": [{"backup_samples": 3, "backup": "max_then_min"}],
    "batch_size": [5],
    "bc_distance": ["mean"],
    "bc_steps": [5],
    "behavior": ["bc"],
    "bias": [True],
    "clip_diff_max": [-1.0],
    "clip_diff_min": [5.0],
    "conservative": ["rho"],
    "critic_bc": [0.9],
    "entropy_coef": [0.1],
    "entropy_loss": [{"entropy_loss": "exp", "entropy_lr": 0.1}],
    "entropy_lr": [0.1],
    "eta": [9.0],
    "expectile": [0.95],
    "gamma": [0.5],
    "gap": [{"gap": 1.0, **LAGRANGE}],
    "head": ["ensemble", "rem", "quantile", "categorical", "hl_gauss"],
    "hidden": [(16, 12)],
    "init": ["dopamine", "small_head", "orthogonal"],
    "images": [{"images": {"width": 20}}],
    "inverse_temperature": [0.1],
    "label_noise": [{"label_noise": {"probability": 0.5}}],
    "lagrange": ["official", "corl", "d3rlpy"],
    "layer_norm": [True],
    "layers": [
        {"layers": layers}
        for layers in (
            {"linear_stack": 1},
            {"factorized": 3},
            {"density": 0.5},
            {"norm": "batch"},
            {"hyperspherical": True},
            {"feature_norm": 1.0},
            {"parametrization": "mup"},
            {"zero_head": True},
        )
    ],
    "log_std_affine": [(0.5, -1.0)],
    "log_std_range": [{"log_std_range": (-0.01, 0.01), "loss": "nll", "policy_lr": 0.1}],
    "logit_adjustment": [{"logit_adjustment": {"gamma": 0.5}, "alpha": 0.5}],
    "loss": ["mse", "nll"],
    "lr": [0.01],
    "max_grad_norm": [0.01],
    "max_weight": [0.5],
    "n_critics": [3],
    "n_step": [3],
    "network": ["minatar", "nature"],
    "noise_clip": [0.01],
    "normalize_q": [False],
    "optimizer": [
        {"optimizer": choice} for choice in ("sgd", {"smd": {"q": 3.0}}, {"rmd": {"lam": 0.1}})
    ],
    "policy": ["squashed", "deterministic"],
    "policy_bc": [1.0],
    "policy_hidden": [(12,)],
    "policy_lr": [0.01],
    "policy_noise": [0.05],
    "policy_period": [1],
    "policy_q": ["first"],
    "precision": ["bf16"],
    "preset": ["cql/d3rlpy", "atari/dqn"],
    "projection": [{"projection": "free", "radius": 0.01}],
    "projections": [{"projections": {"max_norm": 0.01}}],
    "q_weight": [0.3],
    "radius": [0.01],
    "regularizers": [
        {"regularizers": {name: 1.0}}
        for name in ("dr3", "dr3/dopamine", "infer", "spectral_decoupling", "beer", "l2_init")
    ],
    "resets": [{"resets": {"every": 3, "kind": "shrink_and_perturb"}}],
    "scale_obs": [False],
    "target_entropy": [-3.0],
    "target_noise": [{"target_noise": {"scale": 1.0}}],
    "target_period": [3],
    "tau": [0.3],
    "temperature": [{"temperature": 3.0, "alpha": 0.5}],
    "value_lr": [0.01],
    "width": [20],
}


def fields_of(agent: type[Agent]) -> set[str]:
    return {field.name for field in dataclasses.fields(agent.Config)}


@pytest.fixture
def train(tiny, moves):
    """Train an agent for a few steps, and return it."""

    def trained(agent: type[Agent], **changes: Any) -> Agent:
        data = moves if agent in CONTINUOUS or changes.get("loss") == "nll" else tiny
        known = fields_of(agent)
        options = {name: value for name, value in {**SMALL, **changes}.items() if name in known}
        made = agent(data.spec, **options)
        rlop.train(made, data, STEPS, log_every=4, probe_every=0, progress=False, compile=False)
        return made

    return trained


def differ(first: Agent, second: Agent) -> bool:
    """Whether two trained agents have other parameters."""
    ours, theirs = parameters_of(first), parameters_of(second)
    if ours.keys() != theirs.keys():
        return True
    for name, parameter in ours.items():
        if parameter.shape != theirs[name].shape or not torch.equal(parameter, theirs[name]):
            return True
    return False


@pytest.mark.parametrize("name", AGENTS)
def test_every_option_changes_the_training_or_is_refused(name, train):
    agent = AGENTS[name]
    plain = train(agent)
    ignored, messages = [], []
    for option in sorted(fields_of(agent)):
        followed = 0
        for value in CHANGES[option]:
            change = value if isinstance(value, dict) and option in value else {option: value}
            needed = {key: other for key, other in change.items() if key != option}
            try:
                trained = train(agent, **change)
            except InputError as error:
                messages.append(str(error))
                continue
            followed += 1
            if not differ(trained, train(agent, **needed) if needed else plain):
                ignored.append(change)
        assert followed or option in NEED_OTHER_DATA, option
    assert not ignored
    assert not [message for message in messages if "\n" in message]


@pytest.mark.parametrize("name", [name for name in AGENTS if name != "NeuralTD"])
def test_the_activation_that_probes_see_is_that_of_the_features(name, train):
    agent = AGENTS[name]
    assert train(agent).activation == "relu"
    assert train(agent, activation="tanh").activation == "tanh"
    stacked = train(agent, layers={"linear_stack": 1})
    assert stacked.activation == "identity"
    assert "identity" in ACTIVATIONS
