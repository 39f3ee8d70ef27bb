"""Configuration: typed options, files and overrides, checks and their messages."""

from __future__ import annotations

from rlop._imports import moved_attribute


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
