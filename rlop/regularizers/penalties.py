"""The weighted sum of regularizers that an agent adds to its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rlop.config.checks import check_known
from rlop.config.terms import Term
from rlop.nets import Critics
from rlop.optim.learner import Learner
from rlop.regularizers import initial_features, make_regularizer
from rlop.regularizers.base import Regularizer, as_regularizer
from rlop.types import KEPT, ON_REQUEST, OPTIONAL, InputError, Metrics, Penalty, TDContext


def make_regularizers(terms: Mapping[str, Term]) -> dict[str, Regularizer]:
    """Make the regularizer of every term.

    Args:
        terms: from `rlop.config.terms.read_terms`; a term's option `fn` is a function of
            `TDContext` of one's own.
    Raises:
        InputError: for an unknown regularizer or option.
    """
    regularizers = {}
    for name, term in terms.items():
        options = dict(term.options)
        function = options.pop("fn", None)
        if function is not None and options:
            raise InputError(
                f"regularizers.{name}: a function takes no options, found {', '.join(options)}"
            )
        part = make_regularizer(name, **options) if function is None else function
        regularizers[name] = as_regularizer(part, name)
    return regularizers


class Penalties:
    """The regularizers of one network, each with one coefficient per run.

    Args:
        regularizers: by name.
        coefs: name -> `[R]`.
    Attributes:
        needs: optional fields of `TDContext` that some regularizer reads.
    """

    def __init__(
        self, regularizers: Mapping[str, Regularizer], coefs: Mapping[str, Tensor]
    ) -> None:
        self.regularizers = dict(regularizers)
        self.coefs = dict(coefs)
        self.penalties: dict[str, Penalty] = {}  # what `attach` made of the regularizers
        wanted = [regularizer.needs for regularizer in self.regularizers.values()]
        self.needs: frozenset[str] = frozenset().union(*wanted)

    def attach(
        self, network: nn.Module, activation: str, seeds: Sequence[int], bootstraps: bool
    ) -> None:
        """Show every regularizer the network that it will act on, once, before the network gets its
        `Learner`.

        A regularizer that keeps tensors of its own for each run becomes the network's submodule
        `terms.<name>`, so that they are optimized, clipped and frozen with their run, and saved
        with it.

        Args:
            network: its head is `head`, with weight `[R, A, D]` or `[R, E, A, D]`.
            activation: name of the activation that makes the features.
            seeds: one per run.
            bootstraps: whether targets hold the value of the next state.
        Raises:
            InputError: for a regularizer that reads what this agent cannot provide.
        """
        for name, regularizer in self.regularizers.items():
            _check_needs(name, regularizer, network, bootstraps)
            self.penalties[name] = regularizer.attach(network, activation, seeds)

        modules = {}
        for name, penalty in self.penalties.items():
            if isinstance(penalty, nn.Module):
                modules[name.replace(".", "/")] = penalty  # the name of a module has no dots
        if modules:
            network.add_module(KEPT.rstrip("."), nn.ModuleDict(modules))

    def features(
        self, learner: Learner, here: Sequence[Tensor], there: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Return the optional features of a `TDContext` that some regularizer reads.

        Args:
            learner: of the network, whose forward returns features first.
            here: what the network reads at s: `[obs]`, or `[obs, action]`.
            there: the same at s'.
        """
        features = {}
        if "next_features" in self.needs:
            features["next_features"] = learner.online(*there)[0]

        if "next_features_target" in self.needs:
            with torch.no_grad():
                features["next_features_target"] = learner.target(*there)[0]

        if "initial_features" in self.needs:
            features["initial_features"] = initial_features(learner, *here)

        if "slopes" in self.needs:
            features["slopes"] = cast(Critics, learner.online).with_slopes(*here)[2]
        return features

    def add_to(self, loss: Tensor, context: TDContext) -> tuple[Tensor, Metrics]:
        """Return loss + sum_k coef_k penalty_k, `[R]`, and every unweighted penalty as the metric
        `reg/<name>`.
        """
        metrics: Metrics = {}
        total: Tensor | None = None
        for name, penalty in self.penalties.items():
            value = penalty(context)
            if value.shape != loss.shape:
                raise InputError(
                    f"regularizers.{name}: returned shape {tuple(value.shape)}, expected "
                    f"one number a run, {tuple(loss.shape)}; with several critics, "
                    "rlop.regularizers.sum_over_critics adds theirs"
                )
            metrics[f"reg/{name}"] = value
            weighted = self.coefs[name] * value
            total = weighted if total is None else total + weighted
        return loss if total is None else loss + total, metrics


def _check_needs(name: str, regularizer: Regularizer, network: nn.Module, bootstraps: bool) -> None:
    """Reject a regularizer whose inputs this agent cannot provide."""
    if regularizer.needs == OPTIONAL:  # a function that declares nothing gets what there is
        return
    for wanted in regularizer.needs:
        check_known(f"regularizers.{name}: needs", wanted, OPTIONAL | ON_REQUEST)
    if "discount" in regularizer.needs and not bootstraps:
        raise InputError(f"regularizers.{name}: needs a bootstrapped target, backup = mc has none")
    if "slopes" in regularizer.needs and not hasattr(network, "with_slopes"):
        raise InputError(f"regularizers.{name}: needs critics of continuous actions")
