"""Offline RL under over-parameterization: see rank collapse, treat it, measure the treatment.

import rlop
from rlop.agents import DiscreteCQL

data = rlop.load_dataset("gridworld")
agent = DiscreteCQL(data.spec, regularizers={"dr3": [0.0, 0.03]}, seeds=4)  # 8 runs side by side
history = rlop.train(agent, data, steps=20_000, logdir="runs/first")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rlop._imports import install_finder, moved_attribute

if TYPE_CHECKING:
    from rlop import collect as collect
    from rlop import config as config
    from rlop import data as data
    from rlop import deploy as deploy
    from rlop import doctor as doctor
    from rlop import envs as envs
    from rlop import experiments as experiments
    from rlop import interop as interop
    from rlop import logs as logs
    from rlop import losses as losses
    from rlop import nets as nets
    from rlop import ope as ope
    from rlop import optim as optim
    from rlop import probes as probes
    from rlop import projections as projections
    from rlop import regularizers as regularizers
    from rlop import report as report
    from rlop import runs as runs
    from rlop import sweep as sweep
    from rlop import training as training
    from rlop import types as types
    from rlop.data import Dataset as Dataset
    from rlop.data import load_dataset as load_dataset
    from rlop.data import register_dataset as register_dataset
    from rlop.deploy.load import load_policy as load_policy
    from rlop.doctor import diagnose as diagnose
    from rlop.interop.sb3 import ProbeCallback as ProbeCallback
    from rlop.probes import probe as probe
    from rlop.probes import rank_measures as rank_measures
    from rlop.projections import frobenius_ball_ as frobenius_ball_
    from rlop.projections import max_norm_ as max_norm_
    from rlop.regularizers import dr3 as dr3
    from rlop.training.callbacks import Callback as Callback
    from rlop.training.callbacks import EarlyStopping as EarlyStopping
    from rlop.training.checkpoint import load_agent as load_agent
    from rlop.training.evaluate import Evaluator as Evaluator
    from rlop.training.learning_times import LearningTimes as LearningTimes
    from rlop.training.probing import probe_agent as probe_agent
    from rlop.training.session import train as train
    from rlop.training.video import Video as Video
    from rlop.training.wandb_callback import WandbCallback as WandbCallback
    from rlop.types import InputError as InputError

__version__ = "0.2.0"

# Public name -> the module that defines it. Imported on first use, so that a script that needs
# only a regularizer does not load h5py, Gymnasium and TensorBoard.
_HOMES = {
    "Callback": "rlop.training.callbacks",
    "Dataset": "rlop.data",
    "EarlyStopping": "rlop.training.callbacks",
    "Evaluator": "rlop.training.evaluate",
    "InputError": "rlop.types",
    "LearningTimes": "rlop.training.learning_times",
    "ProbeCallback": "rlop.interop.sb3",
    "Video": "rlop.training.video",
    "WandbCallback": "rlop.training.wandb_callback",
    "diagnose": "rlop.doctor",
    "dr3": "rlop.regularizers",
    "frobenius_ball_": "rlop.projections",
    "load_agent": "rlop.training.checkpoint",
    "load_dataset": "rlop.data",
    "load_policy": "rlop.deploy.load",
    "max_norm_": "rlop.projections",
    "probe": "rlop.probes",
    "probe_agent": "rlop.training.probing",
    "rank_measures": "rlop.probes",
    "register_dataset": "rlop.data",
    "train": "rlop.training.session",
}

# Modules that `import rlop` alone makes available, as in `rlop.probes.pack(...)`; also imported on
# first use.
_ROOMS = (
    "agent",
    "agent_checks",
    "agent_runs",
    "agents",
    "collect",
    "config",
    "data",
    "deploy",
    "doctor",
    "envs",
    "experiments",
    "interop",
    "logs",
    "losses",
    "nets",
    "ope",
    "optim",
    "probes",
    "projections",
    "regularizers",
    "report",
    "runs",
    "sweep",
    "training",
    "types",
)

__all__ = sorted(_HOMES)

install_finder()


def __getattr__(name: str) -> object:
    if name in _HOMES:
        # Cached, so that the next use is a plain look-up.
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    if name in _ROOMS:
        return import_module(f"rlop.{name}")

    return moved_attribute(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
