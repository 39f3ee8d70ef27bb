"""Tables, figures and statistics of finished trainings."""

from __future__ import annotations

from rlop._imports import moved_attribute


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
