"""Values of policies without an environment, and what they are checked by.

`fitted_q` takes discrete and continuous actions; `importance` and `doubly_robust` take discrete
ones, of a behavior that is known or cloned. `rlop report --select` ranks checkpoints by them.
"""

from __future__ import annotations

from rlop.ope.behavior import behavior_at
from rlop.ope.estimates import doubly_robust, fitted_q, importance
from rlop.ope.formulas import Estimate
from rlop.ope.policies import policies_of, policies_of_tables, stacked

__all__ = [
    "Estimate",
    "behavior_at",
    "doubly_robust",
    "fitted_q",
    "importance",
    "policies_of",
    "policies_of_tables",
    "stacked",
]
