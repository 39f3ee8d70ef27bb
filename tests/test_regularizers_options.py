"""Options of regularizers: typed, refused by their dotted key, presets, and parts from outside."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import types
import warnings
from collections.abc import Mapping

import pytest
import torch
from helpers.regularizers import ROWS, E, R, context, gradients, network_with_head, row_id
from torch import Tensor

from rlop.config.schema import Positive, option, options
from rlop.regularizers import (
    DR3,
    PEER,
    PRESETS,
    FunctionRegularizer,
    Regularizer,
    as_regularizer,
    dr3,
    make_regularizer,
    needs,
    sum_over_critics,
    warn_if_unbounded,
)
from rlop.types import OPTIONAL, InputError, TDContext

REFUSED: list[tuple[str, Mapping[str, object], str]] = [
    ("dr4", {}, r"regularizers: 'dr4'.*did you mean 'dr3'"),
    ("dr3/dopamin", {}, r"'dr3/dopamin'.*did you mean 'dr3/dopamine'"),
    ("dr3", {"frm": "abs"}, r"'regularizers\.dr3\.frm'.*did you mean 'form'"),
    (
        "dr3",
        {"form": "absolute"},
        r"regularizers\.dr3\.form = 'absolute': expected one of 'signed'",
    ),
    ("dr3/paper", {"next_features": "on-line"}, r"dr3/paper\.next_features = 'on-line'.*'online'"),
    ("dr3", {"stop_gradient": "false"}, r"dr3\.stop_gradient = 'false': expected true or false"),
    ("dr3", {"mask_terminal": 7}, r"dr3\.mask_terminal = 7: expected true or false"),
    ("cosine", {"form": "square"}, r"cosine\.form = 'square'.*'squared'"),
    ("peer", {"stop_gradient": True}, r"unknown key 'regularizers\.peer\.stop_gradient'"),
    ("pc_share", {"threshold": 1}, r"pc_share\.threshold = 1: expected a number in \[0, 1\)"),
    ("pc_share", {"threshold": -0.1}, r"pc_share\.threshold = -0\.1"),
    ("infer", {"heads": 0}, r"infer\.heads = 0: expected a whole number >= 1"),
    ("infer", {"heads": 2.5}, r"infer\.heads = 2\.5"),
    ("infer", {"heads": "ten"}, r"infer\.heads = 'ten'"),
    ("infer", {"beta": float("nan")}, r"infer\.beta = nan"),
    ("infer", {"beta": [1.0, 2.0]}, r"infer\.beta = \[1\.0, 2\.0\]: expected a number"),
    ("spectral_decoupling", {"reference": "zeros"}, r"spectral_decoupling\.reference = 'zeros'"),
    ("spectral_decoupling", {"reference": "batch-mean"}, r"reference = 'batch-mean'"),
    ("spectral_decoupling", {"reference": float("nan")}, r"spectral_decoupling\.reference = nan"),
    ("spectral_decoupling", {"reference": float("inf")}, r"spectral_decoupling\.reference = inf"),
    ("spectral_decoupling", {"reference": True}, r"spectral_decoupling\.reference = true"),
    ("spectral_decoupling", {"reference": None}, r"spectral_decoupling\.reference = null"),
    ("path_norm", {"depth": "first"}, r"path_norm\.depth = 'first'"),
    ("l2", {"center": 0}, r"unknown key 'regularizers\.l2\.center'"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_a_wrong_option_is_refused_by_its_dotted_key(
    name: str, options: Mapping[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_regularizer(name, **options)


@pytest.mark.parametrize(("name", "options"), ROWS, ids=map(row_id, ROWS))
def test_is_a_value(name: str, options: Mapping[str, object]) -> None:
    regularizer = make_regularizer(name, **options)
    for twin in (
        make_regularizer(name, **options),
        copy.deepcopy(regularizer),
        pickle.loads(pickle.dumps(regularizer)),
    ):
        assert twin == regularizer
        assert hash(twin) == hash(regularizer)


def test_explicit_options_override_the_preset() -> None:
    ctx = context()
    changed = make_regularizer("dr3/dopamine", form="squared")
    torch.testing.assert_close(changed(ctx), dr3(ctx.features, ctx.next_features, form="squared"))
    assert PRESETS["dr3/dopamine"]["form"] == "abs"


def test_options_of_a_pair() -> None:
    ctx = context()
    mask = 1 - ctx.terminated
    torch.testing.assert_close(DR3()(ctx), dr3(ctx.features, ctx.next_features, mask))
    torch.testing.assert_close(DR3(mask_terminal=False)(ctx), dr3(ctx.features, ctx.next_features))
    assert set(gradients(DR3()(ctx), ctx)) == {"features", "next_features"}

    target = DR3(next_features="target")
    assert target.needs == {"next_features_target"}
    torch.testing.assert_close(target(ctx), dr3(ctx.features, ctx.next_features_target, mask))

    stopped = DR3(stop_gradient=True)(ctx)
    torch.testing.assert_close(stopped, DR3()(ctx))
    assert set(gradients(stopped, ctx)) == {"features"}


def test_critics_are_penalized_one_by_one_and_summed() -> None:
    ctx = context(critics=E)
    mask = 1 - ctx.terminated
    expected = torch.zeros(R, dtype=torch.float64)
    for critic in range(E):
        expected += dr3(ctx.features[:, critic], ctx.next_features[:, critic], mask)
    torch.testing.assert_close(DR3()(ctx), expected)


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
        penalty = make_regularizer(name)(ctx)
        torch.testing.assert_close(penalty, value)
        one_sided = set(gradients(penalty, ctx)) == {"features"}
        assert one_sided == (name == "dr3/workflow")


# --- regularizers of other packages ---


@options
class LengthPower(Regularizer):
    power: Positive = option(2.0, "power of the length")

    def __call__(self, ctx: TDContext) -> Tensor:
        return sum_over_critics(ctx.features.norm(dim=-1).pow(self.power).mean(-1))


def mean_value(ctx: TDContext) -> Tensor:
    return ctx.q_values.mean((-2, -1))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("a_package")
    module.LengthPower = LengthPower
    module.mean_value = mean_value
    module.declared = needs("reward")(mean_value)
    module.number = 3
    monkeypatch.setitem(sys.modules, "a_package", module)
    return module


@pytest.mark.usefixtures("package")
def test_a_class_is_named_by_its_import_path_and_its_options_are_checked() -> None:
    ctx = context()
    cubed = make_regularizer("a_package:LengthPower", power=3)
    assert cubed == LengthPower(power=3.0)
    torch.testing.assert_close(cubed(ctx), ctx.features.norm(dim=-1).pow(3).mean(-1))
    with pytest.raises(
        InputError, match=r"a_package:LengthPower\.power = -1: expected a number > 0"
    ):
        make_regularizer("a_package:LengthPower", power=-1)


@pytest.mark.usefixtures("package")
def test_a_function_is_named_by_its_import_path() -> None:
    ctx = context()
    undeclared = make_regularizer("a_package:mean_value")
    assert undeclared == FunctionRegularizer(mean_value)
    assert undeclared.needs == OPTIONAL
    assert torch.equal(undeclared(ctx), mean_value(ctx))
    declared = make_regularizer("a_package:declared")
    assert declared.needs == {"reward"}
    assert torch.equal(declared(ctx), mean_value(ctx))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("a_package:number", {}, "expected a subclass of .*Regularizer or a function"),
        ("a_package:LengthPowr", {}, "did you mean 'LengthPower'"),
        ("no_such_package:x", {}, "cannot be imported"),
        ("a_package:mean_value", {"power": 2}, r"a function takes no options, got \['power'\]"),
    ],
)
def test_an_import_path_to_nothing_useful_is_refused(
    path: str, options: Mapping[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_regularizer(path, **options)


def test_a_class_in_the_place_of_a_regularizer_is_refused() -> None:
    with pytest.raises(InputError, match=r"regularizers\.mine: expected a subclass"):
        as_regularizer(DR3, "mine")
    assert as_regularizer(DR3(), "mine") == DR3()


# --- the warning of an unbounded penalty ---


@pytest.fixture
def _no_warning_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    # `rlop.regularizers.dr3` as an attribute is the function, not the module.
    monkeypatch.setattr(importlib.import_module("rlop.regularizers.dr3"), "_warned", False)


@pytest.mark.usefixtures("_no_warning_yet")
@pytest.mark.parametrize(
    "activation", ["tanh", "gelu", "elu", "silu", "leaky_relu", "identity", "layer_norm"]
)
def test_warns_once_of_an_unbounded_penalty(activation: str) -> None:
    network = network_with_head(1, 2, 3)
    with pytest.warns(UserWarning, match=f"dr3 .*{activation} features.*unbounded below"):
        DR3().attach(network, activation, [0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DR3().attach(network, activation, [0])


@pytest.mark.usefixtures("_no_warning_yet")
def test_peer_warns_under_its_own_name() -> None:
    with pytest.warns(UserWarning, match="peer with form 'signed' on tanh features"):
        PEER().attach(network_with_head(1, 2, 3), "tanh", [0])


@pytest.mark.usefixtures("_no_warning_yet")
@pytest.mark.parametrize(
    ("form", "activation"),
    [
        ("signed", "relu"),
        ("signed", "sigmoid"),
        ("signed", "softplus"),
        ("signed", "squared_relu"),
        ("abs", "tanh"),
        ("squared", "identity"),
    ],
)
def test_does_not_warn_of_a_bounded_penalty(form: str, activation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DR3(form=form).attach(network_with_head(1, 2, 3), activation, [0])


def test_the_warning_refuses_an_unknown_form() -> None:
    with pytest.raises(InputError, match="did you mean 'signed'"):
        warn_if_unbounded("sign", "relu")
