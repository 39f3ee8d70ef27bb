"""What the tests of regularizers share: random contexts, networks of given weights, gradients."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rlop.regularizers import PRESETS, REGULARIZERS, make_regularizer
from rlop.types import TDContext

Row = tuple[str, Mapping[str, object]]

# Every regularizer with its defaults, every preset, and options that take another path.
ROWS: list[Row] = [
    *((name, {}) for name in (*REGULARIZERS, *PRESETS)),
    ("dr3", {"form": "abs"}),
    ("dr3", {"form": "squared", "next_features": "target"}),
    ("cosine", {"form": "abs"}),
    ("cosine", {"form": "squared", "next_features": "target", "mask_terminal": False}),
    ("pc_share", {"threshold": 0.0}),
    ("infer", {"heads": 2, "beta": 1.0}),
    ("spectral_decoupling", {"reference": "batch_mean"}),
    ("spectral_decoupling", {"reference": -1.5}),
    ("path_norm", {"depth": "last"}),
]


def row_id(row: Row) -> str:
    """Name a row after its regularizer and the values of its options."""
    return "-".join([row[0], *map(str, row[1].values())])


R, E, B, D, A = 3, 2, 5, 4, 3
# Fields that may carry gradient.
FIELDS = ("features", "next_features", "q_values", "q", "target", "slopes")
# Regularizers that need several critics.
OF_CRITICS = ("diversity",)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def context(critics: int = 0, seed: int = 0) -> TDContext:
    """Draw a context of `R` runs with every field filled; 0 critics gives no axis for them."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lead = (R, critics) if critics else (R,)
    slopes = draw(*lead, B, 2).requires_grad_() if critics else None
    action = torch.randint(A, (R, B), generator=generator)
    q_values = draw(*lead, B, A).requires_grad_()
    data_q = q_values[..., 0] if critics else q_values.gather(-1, action[..., None])[..., 0]
    initial = {
        "torso.layers.0.weight": draw(*lead, 6, 2),
        "torso.layers.0.bias": draw(*lead, 6),
        "torso.layers.1.weight": draw(*lead, D, 6),
        "head.weight": draw(*lead, A, D),
    }
    terminated = [[0.0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    return TDContext(
        features=draw(*lead, B, D).requires_grad_(),
        q=data_q,
        q_values=q_values,
        target=draw(R, B),
        action=action,
        terminated=torch.tensor(terminated, dtype=torch.float64),
        index=torch.arange(B).expand(R, B),
        next_features=draw(*lead, B, D).requires_grad_(),
        next_features_target=draw(*lead, B, D),
        initial_features=draw(*lead, B, D),
        reward=9 * draw(R, B),
        discount=0.8 + 0.1 * draw(R, B).sigmoid(),
        slopes=slopes,
        parameters={name: (w + draw(*w.shape)).requires_grad_() for name, w in initial.items()},
        initial=initial,
    )


def tensors_of(ctx: TDContext) -> dict[str, Tensor]:
    """Flatten a context: every tensor by field, or by field and parameter name."""
    tensors = {}
    for field in dataclasses.fields(ctx):
        value = getattr(ctx, field.name)
        if isinstance(value, Mapping):
            for name, tensor in value.items():
                tensors[f"{field.name}/{name}"] = tensor
        elif value is not None:
            tensors[field.name] = value
    return tensors


def context_of(tensors: Mapping[str, Tensor]) -> TDContext:
    """Build a context from what `tensors_of` returned."""
    fields: dict[str, Tensor | dict[str, Tensor]] = {"parameters": {}, "initial": {}}
    for key, tensor in tensors.items():
        field, _, name = key.partition("/")
        if name:
            fields[field][name] = tensor
        else:
            fields[field] = tensor
    return TDContext(**fields)


def one_run(ctx: TDContext, run: int) -> TDContext:
    """Return one run of a context, still with its run axis."""
    picked = {key: value.detach()[run : run + 1] for key, value in tensors_of(ctx).items()}
    return context_of(picked)


def network_of(parameters: Mapping[str, Tensor]) -> nn.Module:
    """Build a module that has these parameters under these dotted names, and no forward."""
    network = nn.Module()
    for dotted_name, value in parameters.items():
        *path, leaf = dotted_name.split(".")
        module = network
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(value.detach().clone()))
    return network


def network_with_head(*shape: int) -> nn.Module:
    """Build a network that has only a head, with a weight of zeros."""
    return network_of({"head.weight": torch.zeros(*shape)})


class Attached:
    """A regularizer attached to the network of a context; every call starts from the same state.

    Args:
        name: of the regularizer.
        options: of it.
        ctx: gives the parameters of the network.
        seeds: of the runs.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, object],
        ctx: TDContext,
        seeds: Sequence[int] = range(R),
    ) -> None:
        regularizer = make_regularizer(name, **options)
        self.name, self.options, self.needs = name, options, regularizer.needs
        self.penalty = regularizer.attach(network_of(ctx.parameters), "relu", seeds)
        if isinstance(self.penalty, nn.Module):
            self.penalty.double()
        self.initial_state = self.state()

    def state(self) -> dict[str, Tensor]:
        """Copy the tensors that the penalty keeps."""
        if isinstance(self.penalty, nn.Module):
            return copy.deepcopy(self.penalty.state_dict())
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put a copied state back, in place only where it changed: graphs may still refer to it."""
        if not isinstance(self.penalty, nn.Module):
            return
        for name, tensor in self.penalty.state_dict().items():
            if not torch.equal(tensor, state[name]):
                tensor.copy_(state[name])

    def __call__(self, ctx: TDContext) -> Tensor:
        """Compute the penalty from the initial state."""
        self.restore(self.initial_state)
        return self.penalty(ctx)


def gradients(penalty: Tensor, ctx: TDContext) -> dict[str, Tensor]:
    """Differentiate a penalty with respect to everything in the context that it reaches."""
    leaves = {name: getattr(ctx, name) for name in FIELDS} | dict(ctx.parameters)
    leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(
        penalty.sum(), list(leaves.values()), allow_unused=True, retain_graph=True
    )
    return {name: grad for name, grad in zip(leaves, grads) if grad is not None}
