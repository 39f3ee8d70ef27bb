"""One table of regularizers times properties; a new regularizer adds a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
import torch
from helpers.regularizers import (
    OF_CRITICS,
    ROWS,
    Attached,
    E,
    R,
    context,
    context_of,
    gradients,
    normal,
    one_run,
    row_id,
    tensors_of,
)
from torch import Tensor

from rlop.regularizers import PRESETS, REGULARIZERS
from rlop.types import ON_REQUEST, OPTIONAL, TDContext


@pytest.fixture(params=[0, E], ids=["one-critic", "two-critics"])
def ctx(request: pytest.FixtureRequest) -> TDContext:
    return context(request.param)


@pytest.fixture(params=ROWS, ids=row_id)
def penalty(request: pytest.FixtureRequest, ctx: TDContext) -> Attached:
    name, options = request.param
    if name in OF_CRITICS and ctx.features.ndim == 3:
        pytest.skip("of several critics")
    return Attached(name, options, ctx)


def test_every_registered_name_has_a_row() -> None:
    assert {*REGULARIZERS, *PRESETS} == {name for name, _ in ROWS}


# --- properties of every row ---


def test_returns_one_number_per_run(penalty: Attached, ctx: TDContext) -> None:
    value = penalty(ctx)
    assert value.shape == (R,)
    assert value.isfinite().all()
    assert len(set(value.tolist())) == R


def test_gradient_is_finite_and_reaches_something(penalty: Attached, ctx: TDContext) -> None:
    grads = gradients(penalty(ctx), ctx)
    assert grads
    for grad in grads.values():
        assert grad.isfinite().all()
        assert grad.abs().sum() > 0


# Some penalties cut a gradient by design: of their bound, and of the mean of the values.
DIFFERENTIABLE = [
    (name, options)
    for name, options in ROWS
    if not name.startswith("beer") and options.get("reference") != "batch_mean"
]


@pytest.mark.parametrize("penalty", DIFFERENTIABLE, ids=row_id, indirect=True)
def test_gradient_equals_finite_differences(penalty: Attached, ctx: TDContext) -> None:
    tensors = tensors_of(ctx)
    parameters = [name for name in tensors if name.startswith("parameters/")]
    names = [name for name in ("features", "q_values", "slopes") if name in tensors] + parameters

    def of_leaves(*leaves: Tensor) -> Tensor:
        return penalty(context_of(tensors | dict(zip(names, leaves))))

    leaves = [tensors[name] for name in names]
    assert torch.autograd.gradcheck(of_leaves, leaves, fast_mode=True)


def test_gradient_is_finite_where_everything_is_zero(penalty: Attached, ctx: TDContext) -> None:
    names = ("features", "next_features", "next_features_target", "slopes")
    leaves = [leaf for name in names if (leaf := getattr(ctx, name)) is not None]
    for leaf in [*leaves, *ctx.parameters.values()]:
        leaf.data.zero_()

    value = penalty(ctx)
    assert value.isfinite().all()
    for grad in gradients(value, ctx).values():
        assert grad.isfinite().all()


def test_a_run_that_is_not_finite_leaves_its_neighbors_alone(
    penalty: Attached, ctx: TDContext
) -> None:
    value = penalty(ctx)
    grads = gradients(value, ctx)
    names = ("features", "next_features", "q_values", "slopes")
    leaves = [leaf for name in names if (leaf := getattr(ctx, name)) is not None]
    for leaf in [*leaves, *ctx.parameters.values()]:
        leaf.data[1] = torch.nan

    broken = penalty(ctx)
    assert not broken[1].isfinite()
    torch.testing.assert_close(broken[[0, 2]], value[[0, 2]])
    for name, grad in gradients(broken, ctx).items():
        torch.testing.assert_close(grad[[0, 2]], grads[name][[0, 2]])


def test_runs_do_not_mix(penalty: Attached, ctx: TDContext) -> None:
    value = penalty(ctx)
    grads = gradients(value, ctx)
    other = tensors_of(context(E if ctx.features.ndim == 4 else 0, seed=1))
    for name, tensor in tensors_of(ctx).items():
        tensor.data[1] = other[name].data[1]

    changed = penalty(ctx)
    changed_grads = gradients(changed, ctx)
    assert changed[1] != value[1]
    assert torch.equal(changed[[0, 2]], value[[0, 2]])
    for name, grad in grads.items():
        assert torch.equal(changed_grads[name][[0, 2]], grad[[0, 2]])


def test_a_run_alone_equals_itself_among_others(penalty: Attached, ctx: TDContext) -> None:
    together = penalty(ctx).detach()
    for run in range(R):
        run_ctx = one_run(ctx, run)
        alone = Attached(penalty.name, penalty.options, run_ctx, seeds=[run])(run_ctx)
        torch.testing.assert_close(alone.detach(), together[run : run + 1], rtol=1e-12, atol=1e-12)


def test_batch_order_does_not_matter(penalty: Attached, ctx: TDContext) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = {}
    for name, tensor in tensors_of(ctx).items():
        field = name.partition("/")[0]
        of_critics = "features" in field or field == "slopes" or field[0] == "q"
        has_critics = ctx.features.ndim == 4 and of_critics
        has_batch = field not in ("parameters", "initial")
        shuffled[name] = tensor.index_select(1 + has_critics, order) if has_batch else tensor

    torch.testing.assert_close(penalty(context_of(shuffled)), penalty(ctx), rtol=1e-12, atol=1e-12)


def test_reads_only_what_it_declares(penalty: Attached, ctx: TDContext) -> None:
    optional = OPTIONAL | ON_REQUEST
    assert penalty.needs <= optional
    unread = dict.fromkeys(optional - penalty.needs)
    assert torch.equal(penalty(dataclasses.replace(ctx, **unread)), penalty(ctx))
    for field in penalty.needs:
        with pytest.raises(ValueError, match=f"TDContext.{field}: .* needs it, got None"):
            penalty(dataclasses.replace(ctx, **{field: None}))


# All together are traced in `test_regularizers_agents.py`; here those that keep tensors, or differ.
QUICK = ("dr3", "pc_share", "infer", "diversity")


@pytest.mark.parametrize("critics", [E], ids=["two-critics"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in REGULARIZERS],
)
def test_compiled_equals_eager(name: str, critics: int) -> None:
    ctx = context(critics)
    penalty = Attached(name, {}, ctx)
    # A graph takes no tensor that is not a leaf.
    outside = dataclasses.replace(ctx, q=ctx.q.detach())

    def of_leaves(
        features: Tensor,
        next_features: Tensor,
        q_values: Tensor,
        slopes: Tensor,
        parameters: dict[str, Tensor],
    ) -> Tensor:
        changed = dataclasses.replace(
            outside,
            features=features,
            next_features=next_features,
            q_values=q_values,
            q=q_values[..., 0],
            slopes=slopes,
            parameters=parameters,
        )
        return penalty.penalty(changed)

    torch.compiler.reset()
    compiled = torch.compile(of_leaves, backend="aot_eager", fullgraph=True)
    for _ in range(2):  # the second update starts from the state that the first one left
        before = penalty.state()
        eager = penalty.penalty(ctx)
        after = penalty.state()

        penalty.restore(before)
        leaves = (ctx.features, ctx.next_features, ctx.q_values, ctx.slopes)
        traced = compiled(*leaves, ctx.parameters)
        torch.testing.assert_close(traced, eager, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(penalty.state(), after)
        traced_grads = gradients(traced, ctx)
        for leaf, grad in gradients(eager, ctx).items():
            torch.testing.assert_close(traced_grads[leaf], grad, rtol=1e-12, atol=1e-12)


# Row -> how the penalty grows when features, values and weights are multiplied by one number:
# with the power of it that stands here.
DEGREES: list[tuple[str, Mapping[str, object], int]] = [
    ("dr3", {}, 2),
    ("dr3", {"form": "abs"}, 2),
    ("dr3", {"form": "squared"}, 4),
    ("cosine", {}, 0),
    ("cosine", {"form": "abs"}, 0),
    ("peer", {}, 2),
    ("srank_penalty", {}, 2),
    ("pc_share", {}, 0),
    ("feature_decorrelation", {}, 4),
    ("feature_norm", {}, 2),
    ("infer", {}, 2),
    ("spectral_decoupling", {}, 2),
    ("spectral_decoupling", {"reference": "batch_mean"}, 2),
    ("path_norm", {}, 2),
    ("l2", {}, 2),
    ("l2_init", {}, 2),
]


@pytest.mark.parametrize(("name", "options", "degree"), DEGREES)
@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_scales_with_a_power(
    name: str, options: Mapping[str, object], degree: int, scale: float
) -> None:
    ctx = context(E)
    penalty = Attached(name, options, ctx)
    scaled = {}
    for field, tensor in tensors_of(ctx).items():
        is_scaled = any(word in field for word in ("features", "q_values", "weight", "bias"))
        scaled[field] = scale * tensor if is_scaled else tensor

    torch.testing.assert_close(
        penalty(context_of(scaled)), scale**degree * penalty(ctx), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("name", ["dr3", "cosine", "peer", "beer", "srank_penalty", "feature_norm"])
def test_does_not_depend_on_the_axes_of_the_features(name: str) -> None:
    ctx = context(E)
    penalty = Attached(name, {}, ctx)
    rotation = torch.linalg.qr(normal(4, 4)).Q
    rotated = {}
    for field, tensor in tensors_of(ctx).items():
        rotated[field] = tensor @ rotation if "features" in field else tensor

    torch.testing.assert_close(penalty(context_of(rotated)), penalty(ctx), rtol=1e-10, atol=1e-12)
