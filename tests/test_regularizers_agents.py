"""Every regularizer at work in DQN and in continuous CQL: together, compiled, saved, refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import CQL, DQN
from torch import Tensor
from torch._dynamo.utils import counters

from rlop.data.dataset import Dataset
from rlop.optim.learner import Learner
from rlop.regularizers import REGULARIZERS, l2
from rlop.training import checkpoint
from rlop.training.compile import Compiled
from rlop.types import InputError, TDContext, needs

Agent = DQN | CQL

DISCRETE: Mapping[str, object] = {"hidden": (12, 10), "batch_size": 8, "target_period": 3}
CONTINUOUS: Mapping[str, object] = {
    "hidden": (12, 10),
    "policy_hidden": (8,),
    "batch_size": 8,
    "action_samples": 2,
}
EVERY: Mapping[str, object] = {  # of DQN
    **{name: 1e-3 for name in REGULARIZERS if name != "diversity"},
    "infer": 1e-6,
    "pc_share": {"coef": 0.1, "threshold": 0.0},
}
# Regularizers that keep tensors: the names in a checkpoint, after the prefix `terms.`.
KEPT = {"infer.heads", "infer.initial_heads", "pc_share.u"}


class Case(NamedTuple):
    """An agent class, data for it, and options that make it small."""

    kind: type[Agent]
    data: Dataset
    options: Mapping[str, object]
    every: Mapping[str, object]  # every regularizer, with its coefficient

    def make(self, **options: object) -> Agent:
        return self.kind(self.data.spec, **{**self.options, **options})


def moves() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        rng.normal(size=(100, 3)).astype(np.float32),
        rng.uniform(-1, 1, size=(100, 2)).astype(np.float32),
        rng.normal(size=100).astype(np.float32),
        np.arange(100) % 10 == 9,
        np.zeros(100, dtype=bool),
        rng.normal(size=(100, 3)).astype(np.float32),
    )


@pytest.fixture(params=["DQN", "CQL"])
def case(request: pytest.FixtureRequest, tiny: Dataset) -> Case:
    if request.param == "CQL":
        return Case(CQL, moves(), CONTINUOUS, {**EVERY, "diversity": 1e-3})
    return Case(DQN, tiny, DISCRETE, EVERY)


def learner_of(agent: Agent) -> Learner:
    """Return the learner whose features the regularizers see."""
    return agent.main if isinstance(agent, DQN) else agent.learners["critics"]


def copy_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def test_all_together_train_and_each_is_measured(case: Case) -> None:
    agent = case.make(seeds=2, regularizers=case.every)
    before = copy_of(learner_of(agent).parameters)
    metrics = train_steps(agent, case.data, 5)

    assert agent.active.all()
    assert {f"reg/{name}" for name in case.every} <= set(metrics)
    for value in metrics.values():
        assert value.isfinite().all()
    for name, parameter in learner_of(agent).parameters.items():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, before[name])


@pytest.mark.parametrize("name", REGULARIZERS)
def test_each_moves_the_network_and_with_coefficient_zero_changes_nothing(
    case: Case, name: str
) -> None:
    if name not in case.every:
        pytest.skip("of critics of continuous actions")
    plain = case.make(seeds=[1])
    swept = case.make(seeds=[1], regularizers={name: [0.0, 1.0]})
    plain_metrics, swept_metrics = (
        train_steps(plain, case.data, 4),
        train_steps(swept, case.data, 4),
    )
    for metric in ("loss/total", "loss/td", "q/data", "grad/norm"):
        torch.testing.assert_close(
            swept_metrics[metric][:1], plain_metrics[metric], rtol=1e-5, atol=1e-6
        )

    parameters = learner_of(swept).parameters
    moved = []
    for name, parameter in learner_of(plain).parameters.items():
        without, with_penalty = parameters[name]
        torch.testing.assert_close(without, parameter[0], rtol=1e-4, atol=1e-6)
        moved.append(not torch.equal(without, with_penalty))
    assert any(moved)


def test_a_run_alone_equals_itself_among_others(case: Case) -> None:
    together = case.make(seeds=[3, 4, 5], regularizers=case.every)
    alone = case.make(seeds=[4], regularizers=case.every)
    metrics, expected = train_steps(together, case.data, 4), train_steps(alone, case.data, 4)
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name][1:2], value, rtol=1e-3, atol=1e-4)

    state = learner_of(together).online.state_dict()
    for name, tensor in learner_of(alone).online.state_dict().items():
        torch.testing.assert_close(state[name][1:2], tensor, rtol=1e-3, atol=1e-4)


def test_one_graph_that_equals_eager(case: Case) -> None:
    """With a backend that only traces: `test_regularizers.py` takes each alone further."""
    torch.compiler.reset()
    counters.clear()
    eager = case.make(seeds=2, regularizers=case.every)
    traced = case.make(seeds=2, regularizers=case.every)
    expected = train_steps(eager, case.data, 3)
    metrics = train_steps(traced, case.data, 3, Compiled(traced.update, "eager"))

    assert counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(metrics, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        dict(learner_of(traced).online.state_dict()),
        dict(learner_of(eager).online.state_dict()),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_they_keep_is_in_the_checkpoint(case: Case, tmp_path: Path) -> None:
    agent = case.make(seeds=2, regularizers=case.every)
    train_steps(agent, case.data, 3)
    saved = checkpoint.save(tmp_path / "checkpoint.pt", agent, 3)
    restored, _ = checkpoint.load_agent(saved)

    state = dict(learner_of(agent).online.state_dict())
    assert {name.partition(".")[2] for name in state if name.startswith("terms.")} == KEPT
    exactly = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(dict(learner_of(restored).online.state_dict()), state, **exactly)
    torch.testing.assert_close(
        train_steps(restored, case.data, 3), train_steps(agent, case.data, 3), **exactly
    )


def test_a_state_restores_what_they_refer_to_even_under_another_seed(case: Case) -> None:
    options = {"regularizers": case.every, "projections": {"max_norm": 3.0}}
    agent, other = case.make(seeds=[1], **options), case.make(seeds=[9], **options)
    train_steps(agent, case.data, 2)
    assert not torch.equal(
        learner_of(other).initial["head.weight"], learner_of(agent).initial["head.weight"]
    )

    learner_of(other).load_state_dict(learner_of(agent).state_dict())
    exactly = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(
        dict(learner_of(other).initial), dict(learner_of(agent).initial), **exactly
    )
    torch.testing.assert_close(
        dict(learner_of(other).online.state_dict()),
        dict(learner_of(agent).online.state_dict()),
        **exactly,
    )


def test_l2_init_is_zero_at_initialization_and_then_the_distance_from_it(case: Case) -> None:
    agent = case.make(seeds=2, regularizers={"l2_init": 0.0})
    learner = learner_of(agent)
    assert torch.equal(train_steps(agent, case.data, 1)["reg/l2_init"], torch.zeros(2))

    distance = l2(copy_of(learner.parameters), learner.initial, lead=1)
    assert (distance > 0).all()
    torch.testing.assert_close(train_steps(agent, case.data, 1)["reg/l2_init"], distance)


def test_the_penalties_on_weights_do_not_see_what_others_keep(case: Case) -> None:
    on_weights = dict.fromkeys(("l2", "path_norm", "l2_init"), 0.0)
    plain = train_steps(case.make(regularizers=on_weights), case.data, 1)
    metrics = train_steps(case.make(regularizers={**on_weights, "infer": 0.0}), case.data, 1)
    for name in on_weights:
        assert torch.equal(metrics[f"reg/{name}"], plain[f"reg/{name}"])


def test_projections_leave_the_heads_alone(case: Case) -> None:
    ball = {"max_norm": {"radius": 0.01, "center": "zero"}}
    agent = case.make(regularizers={"infer": 0.0}, projections=ball)
    train_steps(agent, case.data, 1)
    parameters = learner_of(agent).parameters
    assert parameters["head.weight"].norm() < 0.1 < parameters["terms.infer.heads"].norm()


def test_infer_reads_the_features_of_the_initial_network(case: Case) -> None:
    agent = case.make(regularizers={"infer": {"coef": 0.0, "beta": 1.0}})
    first = train_steps(agent, case.data, 1)["reg/infer"]
    assert first.item() == pytest.approx(0, abs=1e-12)  # before the first step
    assert train_steps(agent, case.data, 3)["reg/infer"] > 1e-9


def test_an_agent_computes_only_the_fields_that_are_declared(case: Case) -> None:
    contexts = []

    def remember(ctx: TDContext) -> Tensor:
        contexts.append(ctx)
        return ctx.features.flatten(1).mean(-1)

    for function in (remember, needs("next_features")(remember)):
        agent = case.make(regularizers={"mine": {"fn": function, "coef": 0.0}})
        train_steps(agent, case.data, 1)
    undeclared, declared = contexts
    assert undeclared.next_features is not None
    assert undeclared.initial_features is not None
    assert declared.next_features is not None
    assert declared.initial_features is None


# --- refused when the agent is made ---


def test_beer_is_refused_without_a_next_value(tiny: Dataset) -> None:
    with pytest.raises(
        InputError, match=r"regularizers.beer: needs a bootstrapped target, backup = mc has none"
    ):
        DQN(tiny.spec, regularizers={"beer": 0.1}, backup="mc", **DISCRETE)

    others = {name: coef for name, coef in EVERY.items() if name != "beer"}
    agent = DQN(tiny.spec, regularizers=others, backup="mc", **DISCRETE)
    assert train_steps(agent, tiny, 2)["loss/total"].isfinite().all()


def test_diversity_is_refused_without_two_critics_of_continuous_actions(tiny: Dataset) -> None:
    message = "regularizers.diversity: needs critics of continuous actions"
    with pytest.raises(InputError, match=message):
        DQN(tiny.spec, regularizers={"diversity": 1.0}, **DISCRETE)
    message = "regularizers.diversity: expected at least 2 critics, n_critics = 1"
    with pytest.raises(InputError, match=message):
        CQL(moves().spec, n_critics=1, regularizers={"diversity": 1.0}, **CONTINUOUS)


def test_a_field_that_no_agent_gives_is_refused(case: Case) -> None:
    @needs("next_feature")
    def mine(ctx: TDContext) -> Tensor:
        return ctx.q.mean(-1)

    with pytest.raises(
        InputError, match=r"regularizers.mine: needs 'next_feature'.*did you mean 'next_features'"
    ):
        case.make(regularizers={"mine": {"fn": mine, "coef": 1.0}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizers": {"dr3": {"coef": 1, "stop_gradient": "false"}}}, "dr3.stop_gradient"),
        ({"regularizers": {"dr3": {"coef": 1, "mask_terminal": 7}}}, "dr3.mask_terminal"),
        ({"regularizers": {"infer": {"coef": 1, "beta": [1.0, 2.0]}}}, "infer.beta"),
        ({"projections": {"max_norm": {"radius": 1, "lead": 2}}}, "max_norm.lead"),
        ({"projections": {"max_norm": {"radius": 1, "layers": ["tail"]}}}, "layer 'tail'"),
    ],
)
def test_a_wrong_option_is_refused_when_the_agent_is_made(
    case: Case, options: Mapping[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        case.make(**options)


def test_a_penalty_of_another_shape_is_named(moves: Dataset) -> None:
    def one_for_each_critic(ctx: TDContext) -> Tensor:
        return ctx.features.square().mean((-2, -1))

    options = {**CONTINUOUS, "regularizers": {"mine": {"coef": 0.1, "fn": one_for_each_critic}}}
    agent = CQL(moves.spec, **options)
    message = r"regularizers\.mine: returned shape \(1, 2\), expected .*\(1,\).*sum_over_critics"
    with pytest.raises(InputError, match=message):
        train_steps(agent, moves, 1)


def test_minatar_network_takes_them_all() -> None:
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(
        rng.random((60, 10, 10, 4)) < 0.2,
        rng.integers(3, size=60),
        rng.normal(size=60).astype(np.float32),
        np.arange(60) % 10 == 9,
        np.zeros(60, dtype=bool),
        rng.random((60, 10, 10, 4)) < 0.2,
        n_actions=3,
    )
    agent = DQN(data.spec, seeds=2, regularizers=EVERY, **{**DISCRETE, "hidden": (16,)})
    for value in train_steps(agent, data, 2).values():
        assert value.isfinite().all()
