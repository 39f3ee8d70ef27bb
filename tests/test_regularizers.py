"""One table of regularizers times properties, and the numbers of each regularizer worked by hand."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlop.regularizers import (
    PRESETS,
    REGULARIZERS,
    dr3,
    dr3_regularizer,
    make_regularizer,
    warn_if_unbounded,
)
from rlop.types import OPTIONAL, InputError, TDContext

# --- the table: a later regularizer adds a row (name, options) ---

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("dr3", {}),
    ("dr3", {"form": "abs"}),
    ("dr3", {"form": "squared", "next_features": "target"}),
    ("cosine", {}),
    ("cosine", {"form": "squared", "next_features": "target", "mask_terminal": False}),
    ("peer", {}),
    ("beer", {}),
    ("srank_penalty", {}),
    ("pc_share", {}),
    ("pc_share", {"threshold": 0.0}),
    ("feature_decorrelation", {}),
    ("feature_norm", {}),
    ("infer", {}),
    ("infer", {"heads": 2, "beta": 1.0}),
    ("spectral_decoupling", {}),
    ("spectral_decoupling", {"reference": "batch_mean"}),
    ("spectral_decoupling", {"reference": -1.5}),
    ("path_norm", {}),
    ("path_norm", {"depth": "last"}),
    ("l2", {}),
    ("l2_init", {}),
    *((preset, {}) for preset in PRESETS),
]
R, E, B, D, A = 3, 2, 5, 4, 3
FIELDS = (
    "features",
    "next_features",
    "q_values",
    "q",
    "target",
)  # those that may carry gradient or differ by run


def context(critics: int = 0, seed: int = 0) -> TDContext:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    generator = torch.Generator().manual_seed(seed)
    lead = (R, critics) if critics else (R,)
    action = torch.randint(A, (R, B), generator=generator)
    q_values, next_features = (
        normal(*lead, B, A).requires_grad_(),
        normal(*lead, B, D).requires_grad_(),
    )
    initial = {
        "torso.layers.0.weight": normal(*lead, 6, 2),
        "torso.layers.0.bias": normal(*lead, 6),
        "torso.layers.1.weight": normal(*lead, D, 6),
        "head.weight": normal(*lead, A, D),
    }
    return TDContext(
        features=normal(*lead, B, D).requires_grad_(),
        q=q_values[..., 0] if critics else q_values.gather(-1, action[..., None])[..., 0],
        q_values=q_values,
        target=normal(R, B),
        action=action,
        terminated=torch.tensor(
            [[0.0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.float64
        ),
        index=torch.arange(B).expand(R, B),
        next_features=next_features,
        next_features_target=normal(*lead, B, D),
        initial_features=normal(*lead, B, D),
        reward=9 * normal(R, B),
        discount=0.8 + 0.1 * normal(R, B).sigmoid(),
        parameters={name: (w + normal(*w.shape)).requires_grad_() for name, w in initial.items()},
        initial=initial,
    )


def one_run(ctx: TDContext, run: int) -> TDContext:
    def pick(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: pick(x) for name, x in value.items()}
        return None if value is None else value.detach()[run : run + 1]

    return TDContext(**{f.name: pick(getattr(ctx, f.name)) for f in dataclasses.fields(ctx)})


class Fresh:
    """A regularizer of the network that a context tells of; what it keeps is the same at every call."""

    def __init__(
        self, row: tuple[str, dict[str, Any]], ctx: TDContext, seeds: Any = range(R)
    ) -> None:
        self.row, self.fn = row, make_regularizer(row[0], **row[1])
        self.needs = self.fn.needs  # type: ignore[attr-defined]
        if hasattr(self.fn, "prepare"):
            head = SimpleNamespace(weight=ctx.parameters["head.weight"])
            self.fn.prepare(
                SimpleNamespace(head=head, named_parameters=lambda: ctx.parameters.items()), seeds
            )
        if isinstance(self.fn, nn.Module):
            self.fn.double()
            self.state = copy.deepcopy(self.fn.state_dict())

    def reset(self) -> Any:
        if isinstance(self.fn, nn.Module):
            self.fn.load_state_dict(self.state)
        return self.fn

    def __call__(self, ctx: TDContext) -> Tensor:
        return self.reset()(ctx)


def gradients(value: Tensor, ctx: TDContext) -> dict[str, Tensor]:
    leaves = {name: getattr(ctx, name) for name in FIELDS} | dict(ctx.parameters)
    leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(
        value.sum(), list(leaves.values()), allow_unused=True, retain_graph=True
    )
    return {name: grad for name, grad in zip(leaves, grads) if grad is not None}


def row_id(row: tuple[str, dict[str, Any]]) -> str:
    return "-".join([row[0], *map(str, row[1].values())])


@pytest.fixture(params=[0, E], ids=["one-critic", "two-critics"])
def ctx(request: pytest.FixtureRequest) -> TDContext:
    return context(request.param)


@pytest.fixture(params=ROWS, ids=row_id)
def regularizer(request: pytest.FixtureRequest, ctx: TDContext) -> Fresh:
    return Fresh(request.param, ctx)


def test_every_registered_name_has_a_row() -> None:
    assert {*REGULARIZERS, *PRESETS} == {name for name, _ in ROWS}


def test_returns_one_number_per_run(regularizer: Any, ctx: TDContext) -> None:
    value = regularizer(ctx)
    assert value.shape == (R,)
    assert value.isfinite().all()
    assert len(set(value.tolist())) == R


def test_gradient_is_finite_and_reaches_something(regularizer: Any, ctx: TDContext) -> None:
    grads = gradients(regularizer(ctx), ctx)
    assert grads
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in grads.values())


def test_gradient_is_finite_where_everything_is_zero(regularizer: Any, ctx: TDContext) -> None:
    for leaf in (
        ctx.features,
        ctx.next_features,
        ctx.next_features_target,
        *ctx.parameters.values(),
    ):
        leaf.data.zero_()
    value = regularizer(ctx)
    assert value.isfinite().all()
    assert all(grad.isfinite().all() for grad in gradients(value, ctx).values())


def test_a_run_that_is_not_finite_leaves_its_neighbours_alone(
    regularizer: Any, ctx: TDContext
) -> None:
    value, grads = regularizer(ctx), gradients(regularizer(ctx), ctx)
    for leaf in (ctx.features, ctx.next_features, ctx.q_values, *ctx.parameters.values()):
        leaf.data[1] = torch.nan
    broken = regularizer(ctx)
    assert not broken[1].isfinite()
    torch.testing.assert_close(broken[[0, 2]], value[[0, 2]])
    for name, grad in gradients(broken, ctx).items():
        torch.testing.assert_close(grad[[0, 2]], grads[name][[0, 2]])


def test_runs_do_not_mix(regularizer: Any, ctx: TDContext) -> None:
    other = context(E if ctx.features.ndim == 4 else 0, seed=1)
    value, grads = regularizer(ctx), gradients(regularizer(ctx), ctx)
    for field in dataclasses.fields(ctx):  # run 1 becomes another one, in place
        mine, yours = getattr(ctx, field.name), getattr(other, field.name)
        for x, y in (
            zip(mine.values(), yours.values()) if isinstance(mine, dict) else [(mine, yours)]
        ):
            x.data[1] = y.data[1]
    changed = regularizer(ctx)
    changed_grads = gradients(changed, ctx)
    assert changed[1] != value[1]
    for name, grad in grads.items():
        assert torch.equal(changed_grads[name][[0, 2]], grad[[0, 2]])
    assert torch.equal(changed[[0, 2]], value[[0, 2]])


def test_run_axis_equals_a_loop(regularizer: Any, ctx: TDContext) -> None:
    alone = [
        Fresh(regularizer.row, one_run(ctx, run), seeds=[run])(one_run(ctx, run))
        for run in range(R)
    ]
    torch.testing.assert_close(
        regularizer(ctx).detach(), torch.cat(alone).detach(), rtol=1e-12, atol=1e-12
    )


def test_batch_order_does_not_matter(regularizer: Any, ctx: TDContext) -> None:
    order, critics = torch.tensor([3, 0, 4, 1, 2]), ctx.features.ndim == 4
    axis = {
        f.name: 2 if critics and ("features" in f.name or f.name[0] == "q") else 1
        for f in dataclasses.fields(ctx)
    }
    shuffled = {
        f.name: getattr(ctx, f.name)
        if f.name in ("parameters", "initial")
        else getattr(ctx, f.name).index_select(axis[f.name], order)
        for f in dataclasses.fields(ctx)
    }
    torch.testing.assert_close(
        regularizer(TDContext(**shuffled)), regularizer(ctx), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("ctx", [E], ids=["two-critics"], indirect=True)
@pytest.mark.parametrize(
    "regularizer", [(name, {}) for name in REGULARIZERS], ids=row_id, indirect=True
)
def test_compiled_equals_eager(regularizer: Any, ctx: TDContext) -> None:
    outside = dataclasses.replace(
        ctx, q=ctx.q.detach()
    )  # a graph takes no tensor that is not a leaf
    fn = regularizer.fn

    def loss(
        features: Tensor, next_features: Tensor, q_values: Tensor, parameters: dict[str, Tensor]
    ) -> Tensor:
        changes = {
            "features": features,
            "next_features": next_features,
            "q_values": q_values,
            "q": q_values[..., 0],
        }
        return fn(dataclasses.replace(outside, parameters=parameters, **changes))

    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    arguments = ctx.features, ctx.next_features, ctx.q_values, ctx.parameters
    for _ in range(2):  # the second update starts from what the first one kept
        kept = copy.deepcopy(fn.state_dict()) if isinstance(fn, nn.Module) else {}
        eager = fn(ctx)
        expected = gradients(eager, ctx)
        if kept:
            moved = copy.deepcopy(fn.state_dict())
            fn.load_state_dict(kept)
        traced = compiled(*arguments)
        found = gradients(traced, ctx)
        torch.testing.assert_close(traced, eager, rtol=1e-12, atol=1e-12)
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-12, atol=1e-12)
        if kept:
            torch.testing.assert_close(dict(fn.state_dict()), dict(moved))


def test_reads_only_what_it_declares(regularizer: Any, ctx: TDContext) -> None:
    assert regularizer.needs <= OPTIONAL
    spared = OPTIONAL - regularizer.needs
    assert torch.equal(
        regularizer(dataclasses.replace(ctx, **dict.fromkeys(spared))), regularizer(ctx)
    )
    for field in regularizer.needs:
        with pytest.raises(ValueError, match=field):
            regularizer(dataclasses.replace(ctx, **{field: None}))


# --- dr3 by hand ---

PHI = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
NEXT = torch.tensor([[2.0, 0.5], [-1.0, 4.0]])  # dot products 3 and -7


@pytest.mark.parametrize(("form", "expected"), [("signed", -2.0), ("abs", 5.0), ("squared", 29.0)])
def test_dr3_by_hand(form: str, expected: float) -> None:
    assert dr3(PHI, NEXT, form=form) == expected


@pytest.mark.parametrize("mask", [torch.tensor([1.0, 0.0]), torch.tensor([True, False])])
def test_dr3_divides_by_the_batch_with_a_mask_too(mask: Tensor) -> None:
    assert dr3(PHI, NEXT, mask) == 1.5  # (3 + 0) / 2
    assert dr3(PHI, NEXT, mask, form="squared") == 4.5


def test_dr3_forms_agree_on_features_that_are_not_negative() -> None:
    assert dr3(PHI.abs(), NEXT.abs()) == dr3(PHI.abs(), NEXT.abs(), form="abs")


@pytest.mark.parametrize("form", ["signed", "abs", "squared"])
def test_dr3_gradient(form: str) -> None:
    phi, following = PHI.double().requires_grad_(), NEXT.double().requires_grad_()
    mask = torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, y: dr3(x, y, mask, form), (phi, following))


def test_dr3_gradient_in_closed_form_reaches_both_sides() -> None:
    phi, following = PHI.clone().requires_grad_(), NEXT.clone().requires_grad_()
    dr3(phi, following, torch.tensor([1.0, 0.0])).backward()
    assert torch.equal(phi.grad, torch.tensor([[1.0, 0.25], [0.0, 0.0]]))  # m_b phi'_b / B
    assert torch.equal(following.grad, torch.tensor([[0.5, 1.0], [0.0, 0.0]]))  # m_b phi_b / B


def test_dr3_is_invariant_to_rotation_and_quadratic_in_scale() -> None:
    phi, following = context().features.detach(), context(seed=1).features.detach()
    rotation = torch.linalg.qr(
        torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ).Q
    torch.testing.assert_close(dr3(phi @ rotation, following @ rotation), dr3(phi, following))
    torch.testing.assert_close(dr3(3 * phi, 3 * following), 9 * dr3(phi, following))


def test_dr3_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(1, 2\)"):
        dr3(PHI, NEXT[:1])
    with pytest.raises(ValueError, match=r"mask: expected \(2,\), got \(2, 1\)"):
        dr3(PHI, NEXT, torch.ones(2, 1))
    with pytest.raises(ValueError, match="one shape"):
        dr3(PHI[0], NEXT[0])


def test_dr3_regularizer_options() -> None:
    ctx = context()
    keep = 1 - ctx.terminated
    torch.testing.assert_close(dr3_regularizer()(ctx), dr3(ctx.features, ctx.next_features, keep))
    unmasked = dr3_regularizer(mask_terminal=False)
    torch.testing.assert_close(unmasked(ctx), dr3(ctx.features, ctx.next_features))
    target = dr3_regularizer(next_features="target")
    assert target.needs == {"next_features_target"}
    torch.testing.assert_close(target(ctx), dr3(ctx.features, ctx.next_features_target, keep))
    assert set(gradients(dr3_regularizer()(ctx), ctx)) == {"features", "next_features"}
    stopped = dr3_regularizer(stop_gradient=True)(ctx)
    assert set(gradients(stopped, ctx)) == {"features"}
    torch.testing.assert_close(stopped, dr3_regularizer()(ctx))


def test_dr3_regularizer_sums_over_critics() -> None:
    ctx = context(critics=E)
    each = [dr3(ctx.features[:, e], ctx.next_features[:, e], 1 - ctx.terminated) for e in range(E)]
    torch.testing.assert_close(dr3_regularizer()(ctx), each[0] + each[1])


def test_presets_reproduce_their_codes() -> None:
    ctx = context()
    dot = (ctx.features * ctx.next_features).sum(-1)
    expected = {
        "dr3/paper": dot.mean(-1),
        "dr3/dopamine": dot.abs().mean(-1),
        "dr3/workflow": dot.mean(-1),
        "dr3/jaxrl2": (dot * (1 - ctx.terminated)).mean(-1),
    }
    assert set(expected) == {name for name in PRESETS if name.startswith("dr3/")}
    for name, value in expected.items():
        torch.testing.assert_close(make_regularizer(name)(ctx), value)
        one_sided = set(gradients(make_regularizer(name)(ctx), ctx)) == {"features"}
        assert one_sided == (name == "dr3/workflow")


def test_explicit_options_override_the_preset() -> None:
    ctx = context()
    changed = make_regularizer("dr3/dopamine", form="squared")
    torch.testing.assert_close(changed(ctx), dr3(ctx.features, ctx.next_features, form="squared"))
    assert PRESETS["dr3/dopamine"]["form"] == "abs"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dr4", {}, r"regularizer 'dr4'.*did you mean 'dr3'"),
        ("dr3/dopamin", {}, r"'dr3/dopamin'.*did you mean 'dr3/dopamine'"),
        ("dr3", {"frm": "abs"}, r"regularizer dr3: option 'frm'.*did you mean 'form'"),
        ("dr3", {"form": "absolute"}, r"form 'absolute'.*one of signed, abs"),
        (
            "dr3/paper",
            {"next_features": "on-line"},
            r"next_features 'on-line'.*did you mean 'online'",
        ),
    ],
)
def test_mistakes_name_the_nearest(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_regularizer(name, **options)


# --- the warning ---


@pytest.fixture
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # `rlop.regularizers.dr3` as an attribute is the function
    monkeypatch.setattr(importlib.import_module("rlop.regularizers.dr3"), "_warned", False)


@pytest.mark.usefixtures("_fresh_process")
@pytest.mark.parametrize(
    "activation", ["tanh", "gelu", "elu", "silu", "leaky_relu", "identity", "layer_norm"]
)
def test_warns_once_of_an_unbounded_penalty(activation: str) -> None:
    with pytest.warns(UserWarning, match=f"{activation} features.*unbounded below"):
        warn_if_unbounded(dr3_regularizer().form, activation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unbounded("signed", activation)


@pytest.mark.usefixtures("_fresh_process")
@pytest.mark.parametrize(
    ("form", "activation"),
    [
        *(("signed", activation) for activation in ("relu", "sigmoid", "softplus", "squared_relu")),
        ("abs", "tanh"),
        ("squared", "identity"),
    ],
)
def test_does_not_warn_of_a_bounded_penalty(form: str, activation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unbounded(form, activation)


def test_the_warning_refuses_an_unknown_form() -> None:
    with pytest.raises(InputError, match="did you mean 'signed'"):
        warn_if_unbounded("sign", "relu")
