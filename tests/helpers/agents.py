"""One row per agent, with small networks and every part of its update switched on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlop.agents import (
    BC,
    CQL,
    DQN,
    EDAC,
    IQL,
    SACN,
    TD3BC,
    DiscreteCQL,
    NeuralTD,
    ReBRAC,
)

from rlop.agent import Agent
from rlop.data.dataset import Dataset


@dataclass(frozen=True)
class Row:
    """An agent under test.

    Args:
        agent: its class.
        options: small networks, and every part of the update switched on.
        continuous: whether it takes the continuous data set.
        variants: of one launch, to be compared with each alone.
        mad: a setting that diverges, if there is one.
    """

    agent: type[Agent]
    options: dict[str, Any]
    variants: dict[str, dict[str, float]]
    mad: dict[str, float] | None
    continuous: bool = False

    @property
    def off(self) -> dict[str, float]:
        """Every term that only variants name, switched off: which terms are present is static."""
        keys = {key for changes in self.variants.values() for key in changes}
        terms = {}
        for key in keys:
            section, _, name = key.partition(".")
            if section == "regularizers" and name not in self.options.get(section, {}):
                terms[key] = 0.0
            if section == "projections":
                terms[key] = float("inf")
        return terms

    def make(self, data: Dataset, **changes: Any) -> Agent:
        return self.agent(data.spec, **{**self.options, **changes})


Q_OPTIONS = {"hidden": (16, 16), "batch_size": 8, "lr": 1e-3}
DQN_OPTIONS = {**Q_OPTIONS, "target_period": 3, "max_grad_norm": 1.0}
ACTOR_OPTIONS = {**Q_OPTIONS, "policy_hidden": (16,)}
CRITIC_OPTIONS = {**ACTOR_OPTIONS, "action_samples": 3}
DQN_VARIANTS = {
    "plain": {},
    "cql": {"alpha": 0.3, "temperature": 0.5},
    "dr3": {"regularizers.dr3": 0.03},
    "ball": {"projections.max_norm": 0.5, "lr": 3e-3},
}

ROWS = {
    "DQN": Row(DQN, DQN_OPTIONS, DQN_VARIANTS, {"lr": 1e18}),
    "DQN noisy": Row(
        DQN,
        {**DQN_OPTIONS, "backup": "double", "target_noise": {"scale": 0.1}},
        {"plain": {}, "loud": {"target_noise.scale": 1.0}},
        {"lr": 1e18},
    ),
    "DQN rmd": Row(
        DQN,
        {**Q_OPTIONS, "optimizer": {"rmd": {"lam": 3.0}}},
        {"plain": {}, "weak": {"optimizer.lam": 1.0}},
        {"lr": 1e18},
    ),
    "DQN behavior": Row(
        DQN,
        {
            **DQN_OPTIONS,
            "backup": "behavior",
            "behavior": {"bc": {"steps": 20, "hidden": [8]}},
        },
        {"plain": {}, "cql": {"alpha": 0.5}},
        {"lr": 1e18},
    ),
    "DQN quantiles": Row(
        DQN,
        {**DQN_OPTIONS, "head": {"quantile": {"n": 5}}},
        {"plain": {}, "cql": {"alpha": 0.5}},
        {"lr": 1e18},
    ),
    "DQN rem": Row(
        DQN,
        {**DQN_OPTIONS, "head": {"rem": {"n": 5}}},
        {"plain": {}, "soft": {"tau": 0.1}},
        {"lr": 1e18},
    ),
    "DQN ensemble": Row(
        DQN,
        {**DQN_OPTIONS, "head": {"ensemble": {"n": 4}}, "regularizers": {"dr3": 0.01}},
        {"plain": {}, "cql": {"alpha": 0.5}},
        {"lr": 1e18},
    ),
    "DQN categorical": Row(
        DQN,
        {**DQN_OPTIONS, "head": {"categorical": {"n": 7, "v_min": -2.0, "v_max": 2.0}}},
        {"plain": {}, "cql": {"alpha": 0.5}},
        mad=None,  # a cross-entropy has bounded gradients
    ),
    "DQN hl_gauss": Row(
        DQN,
        {
            **DQN_OPTIONS,
            "backup": "double",
            "head": {"hl_gauss": {"n": 9, "v_min": -2.0, "v_max": 2.0}},
        },
        {"plain": {}, "dr3": {"regularizers.dr3": 0.03}},
        mad=None,
    ),
    "DiscreteCQL infer": Row(
        DiscreteCQL,
        {**DQN_OPTIONS, "regularizers": {"infer": 0.01}},
        {"plain": {}, "strong": {"regularizers.infer": 1.0}},
        {"lr": 1e18},
    ),
    "CQL": Row(
        CQL,
        CRITIC_OPTIONS,
        {
            "plain": {},
            "bold": {"alpha": 0.5, "temperature": 0.5},
            "slow": {"lr": 1e-4, "policy_lr": 1e-3, "gamma": 0.9},
            "dr3": {"regularizers.dr3": 0.01},
            "ball": {"projections.max_norm": 0.5},
        },
        {"lr": 1e18},
        continuous=True,
    ),
    "CQL lagrange": Row(
        CQL,
        {**CRITIC_OPTIONS, "lagrange": "official", "n_critics": 3, "backup": "min_then_max"},
        {"plain": {}, "wide": {"gap": 10.0}},
        {"policy_lr": 1e30},
        continuous=True,
    ),
    "CQL corl": Row(
        CQL,
        {
            **CRITIC_OPTIONS,
            "lagrange": "corl",
            "gap": 0.5,
            "backup": "max_then_min",
            "backup_samples": 4,
            "backup_entropy": True,
            "bc_steps": 10,
            "max_grad_norm": 1.0,
        },
        {"plain": {}, "soft": {"tau": 0.1, "target_entropy": -0.5}},
        {"lr": 1e18},
        continuous=True,
    ),
    "IQL": Row(
        IQL,
        ACTOR_OPTIONS,
        {
            "plain": {},
            "bold": {"expectile": 0.9, "inverse_temperature": 10.0},
            "slow": {"lr": 1e-4, "policy_lr": 1e-3, "value_lr": 1e-3, "gamma": 0.9},
            "dr3": {"regularizers.dr3": 0.01},
            "ball": {"projections.max_norm": 0.5},
        },
        {"lr": 1e18},
        continuous=True,
    ),
    "IQL squashed": Row(
        IQL,
        {**ACTOR_OPTIONS, "policy": "squashed", "n_critics": 3, "target_noise": {"scale": 0.1}},
        {"plain": {}, "loud": {"target_noise.scale": 1.0}},
        {"policy_lr": 1e30},
        continuous=True,
    ),
    "IQL deterministic": Row(
        IQL,
        {**ACTOR_OPTIONS, "policy": "deterministic", "max_grad_norm": 1.0, "target_period": 2},
        {"plain": {}, "soft": {"tau": 0.1}},
        {"value_lr": 1e18},
        continuous=True,
    ),
    "IQL discrete": Row(
        IQL,
        ACTOR_OPTIONS,
        {
            "plain": {},
            "bold": {"expectile": 0.9, "inverse_temperature": 10.0},
            "dr3": {"regularizers.dr3": 0.01},
            "ball": {"projections.max_norm": 0.5},
        },
        {"lr": 1e18},
    ),
    "IQL rmd": Row(
        IQL,
        {**ACTOR_OPTIONS, "optimizer": {"rmd": {"lam": 3.0}}},
        {"plain": {}, "weak": {"optimizer.lam": 1.0}},
        {"lr": 1e18},
        continuous=True,
    ),
    "ReBRAC": Row(
        ReBRAC,
        ACTOR_OPTIONS,
        {
            "plain": {},
            "near": {"policy_bc": 1.0, "critic_bc": 0.5},
            "slow": {"lr": 1e-4, "policy_lr": 1e-2, "gamma": 0.9, "policy_noise": 0.0},
            "dr3": {"regularizers.dr3": 0.01},
            "ball": {"projections.max_norm": 0.5},
        },
        {"lr": 1e18},
        continuous=True,
    ),
    "TD3BC": Row(
        TD3BC,
        {
            **ACTOR_OPTIONS,
            "policy_period": 3,
            "target_period": 3,
            "max_grad_norm": 1.0,
            "target_noise": {"scale": 0.1},
        },
        {"plain": {}, "bold": {"q_weight": 10.0}, "loud": {"target_noise.scale": 1.0}},
        {"policy_lr": 1e30},
        continuous=True,
    ),
    "SACN": Row(
        SACN,
        {**ACTOR_OPTIONS, "n_critics": 4},
        {
            "plain": {},
            "slow": {"lr": 1e-4, "policy_lr": 1e-2, "gamma": 0.9, "target_entropy": -2.0},
            "dr3": {"regularizers.dr3": 0.01},
            "ball": {"projections.max_norm": 0.5},
        },
        {"lr": 1e18},
        continuous=True,
    ),
    "EDAC": Row(
        EDAC,
        {**ACTOR_OPTIONS, "n_critics": 3, "max_grad_norm": 1.0, "target_noise": {"scale": 0.1}},
        {"plain": {}, "diverse": {"eta": 10.0}, "loud": {"target_noise.scale": 1.0}},
        {"policy_lr": 1e30},
        continuous=True,
    ),
    "ReBRAC hl_gauss": Row(
        ReBRAC,
        {**ACTOR_OPTIONS, "head": {"hl_gauss": {"n": 9, "v_min": -2.0, "v_max": 2.0}}},
        {"plain": {}, "near": {"policy_bc": 1.0, "critic_bc": 0.5}},
        mad=None,  # a cross-entropy has bounded gradients
        continuous=True,
    ),
    "CQL quantile": Row(
        CQL,
        {**CRITIC_OPTIONS, "head": {"quantile": {"n": 5}}, "backup": "max_then_min"},
        {"plain": {}, "bold": {"alpha": 0.5, "temperature": 0.5}},
        {"lr": 1e18},
        continuous=True,
    ),
    "BC": Row(BC, Q_OPTIONS, {"plain": {}, "fast": {"lr": 1e-2}}, {"lr": 1e30}),
    "BC noisy": Row(
        BC,
        {**Q_OPTIONS, "label_noise": {"probability": 0.1}},
        {"plain": {}, "loud": {"label_noise.probability": 0.5}},
        {"lr": 1e30},
    ),
    "BC mse": Row(BC, Q_OPTIONS, {"plain": {}, "fast": {"lr": 1e-2}}, None, continuous=True),
    "BC nll": Row(
        BC,
        {**Q_OPTIONS, "loss": "nll"},
        {"plain": {}, "fast": {"lr": 1e-2}},
        {"lr": 1e30},
        continuous=True,
    ),
    "NeuralTD": Row(
        NeuralTD,
        {"width": 16, "batch_size": 8, "target_noise": {"scale": 0.1, "kind": "sign"}},
        {"near": {"radius": 0.1}, "far": {"radius": 30.0}},
        mad=None,  # the ball keeps it from diverging
    ),
    "NeuralTD frobenius": Row(
        NeuralTD,
        {
            "width": 16,
            "batch_size": 8,
            "projection": "frobenius",
            "bias": True,
            "target_noise": {"scale": 0.5, "off_after": 10},
        },
        {"near": {"radius": 0.1}, "far": {"radius": 5.0}},
        mad=None,
    ),
    "NeuralTD free": Row(
        NeuralTD,
        {"width": 16, "batch_size": 8, "projection": "free"},
        {"plain": {}, "fast": {"lr": 0.3}},
        {"lr": 1e20},
    ),
}
