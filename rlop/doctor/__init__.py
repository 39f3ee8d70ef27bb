"""The doctor: what is wrong with a training, in words, with evidence and a first remedy."""

from __future__ import annotations

from rlop.doctor.diagnosis import Diagnosis, diagnose
from rlop.doctor.findings import Evidence, Finding
from rlop.doctor.text import as_text

__all__ = ["Diagnosis", "Evidence", "Finding", "as_text", "diagnose"]
