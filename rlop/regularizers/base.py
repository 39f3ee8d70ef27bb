"""temporary"""
from torch import nn
from rlop.types import OPTIONAL
Penalty = object
class Regularizer:
    def __init__(self, fn): self.fn=fn
    @property
    def needs(self): return getattr(self.fn,"needs",OPTIONAL)
    def attach(self, network, activation, seeds):
        from rlop.regularizers.dr3 import warn_if_unbounded
        if hasattr(self.fn,"form"): warn_if_unbounded(self.fn.form, activation)
        if hasattr(self.fn,"prepare"): self.fn.prepare(network, seeds)
        return self.fn
    def __call__(self, ctx): return self.fn(ctx)
def from_function(fn): return Regularizer(fn)
