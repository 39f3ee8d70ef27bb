"""Offline RL under over-parameterization: see rank collapse, fix it, prove it.

import rlop
from rlop.agents import DiscreteCQL

data = rlop.load_dataset("gridworld")
agent = DiscreteCQL(data.spec, regularizers={"dr3": [0.0, 0.03]}, seeds=4)  # 8 runs side by side
history = rlop.train(agent, data, steps=20_000, logdir="runs/first")
"""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlop.data import Dataset as Dataset
    from rlop.data import load_dataset as load_dataset
    from rlop.probes import probe as probe
    from rlop.probes import rank_measures as rank_measures
    from rlop.projections import frobenius_ball_ as frobenius_ball_
    from rlop.projections import max_norm_ as max_norm_
    from rlop.regularizers import dr3 as dr3
    from rlop.training.evaluate import Evaluator as Evaluator
    from rlop.training.loop import train as train
    from rlop.types import InputError as InputError

__version__ = "0.1.0"

# A checkout keeps the agents at its top level, an installed wheel has them in this folder.
_CHECKOUT = Path(__file__).resolve().parents[1]
if not (_CHECKOUT / "rlop" / "agents").exists() and (_CHECKOUT / "agents" / "__init__.py").exists():
    __path__.append(str(_CHECKOUT))

# Resolved at first use: h5py, Gymnasium and TensorBoard are not loaded by someone who only wants a regularizer.
_HOME = {
    "Dataset": "rlop.data:Dataset",
    "Evaluator": "rlop.training.evaluate:Evaluator",
    "InputError": "rlop.types:InputError",
    "dr3": "rlop.regularizers:dr3",
    "frobenius_ball_": "rlop.projections:frobenius_ball_",
    "load_dataset": "rlop.data:load_dataset",
    "max_norm_": "rlop.projections:max_norm_",
    "probe": "rlop.probes:probe",
    "rank_measures": "rlop.probes:rank_measures",
    "train": "rlop.training.loop:train",
}
__all__ = sorted(_HOME)

# Deprecated name -> the name to use.
_RENAMED = {"feature_rank": "rank_measures"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        new_name = _RENAMED[name]
        message = f"rlop.{name} is deprecated and will go: use rlop.{new_name}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return __getattr__(new_name)

    if name not in _HOME:
        raise AttributeError(f"module 'rlop' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value
