"""The doctor: what is wrong with a training, in words, with evidence and a first remedy."""

from __future__ import annotations

from rlop.doctor.diagnosis import Diagnosis, diagnose
from rlop.doctor.findings import Evidence, Finding

__all__ = ["Diagnosis", "Evidence", "Finding", "diagnose"]
