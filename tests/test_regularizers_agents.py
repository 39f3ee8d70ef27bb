"""Every regularizer at work in DQN and in continuous CQL: together, compiled, saved, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import CQL, DQN
from torch import Tensor
from torch._dynamo.utils import counters

import rlop
from rlop.data.dataset import Dataset
from rlop.regularizers import REGULARIZERS
from rlop.training import checkpoint
from rlop.training.loop import compiled
from rlop.types import InputError, TDContext, needs

DISCRETE: dict[str, Any] = {"hidden": (12, 10), "batch_size": 8, "target_period": 3}
CONTINUOUS: dict[str, Any] = {
    "hidden": (12, 10),
    "policy_hidden": (8,),
    "batch_size": 8,
    "action_samples": 2,
}
EVERY = {name: 1e-3 for name in REGULARIZERS} | {
    "infer": 1e-6,
    "pc_share": {"coef": 0.1, "threshold": 0.0},
}


def moves() -> Dataset:
    rng = np.random.default_rng(0)
    ends = np.arange(100) % 10 == 9
    return Dataset.from_arrays(
        rng.normal(size=(100, 3)).astype(np.float32),
        rng.uniform(-1, 1, size=(100, 2)).astype(np.float32),
        rng.normal(size=100).astype(np.float32),
        ends,
        np.zeros(100, dtype=bool),
        rng.normal(size=(100, 3)).astype(np.float32),
    )


@pytest.fixture(params=["DQN", "CQL"])
def case(request: pytest.FixtureRequest) -> tuple[Any, Dataset, dict[str, Any]]:
    if request.param == "CQL":
        return CQL, moves(), CONTINUOUS
    return DQN, rlop.load_dataset("gridworld?size=5&steps=200"), DISCRETE


def learner(agent: Any) -> Any:
    return agent.main if isinstance(agent, DQN) else agent.learners["critics"]


def assert_same(mine: Any, yours: Any, exactly: bool = True) -> None:
    if isinstance(mine, dict):
        for name in mine:
            assert_same(mine[name], yours[name], exactly)
    else:
        torch.testing.assert_close(
            mine, yours, **({"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-4, "atol": 1e-5})
        )


def test_all_together_train_and_each_is_measured(case: Any) -> None:
    kind, data, options = case
    agent = kind(data.spec, seeds=2, regularizers=EVERY, **options)
    before = {name: p.clone() for name, p in learner(agent).parameters.items()}
    metrics = train_steps(agent, data, 5)
    assert agent.active.all()
    assert all(value.isfinite().all() for value in metrics.values())
    assert {f"reg/{name}" for name in REGULARIZERS} <= set(metrics)
    assert all(not torch.equal(p, before[name]) for name, p in learner(agent).parameters.items())
    assert all(p.isfinite().all() for p in learner(agent).parameters.values())


@pytest.mark.parametrize("name", REGULARIZERS)
def test_each_moves_the_network_and_with_coefficient_zero_changes_nothing(
    case: Any, name: str, tiny: Dataset
) -> None:
    kind, data, options = case
    data = (
        tiny if kind is DQN else data
    )  # rewards everywhere: BEER has nothing to say where all are 0
    plain = kind(data.spec, seeds=[1], **options)
    swept = kind(data.spec, seeds=[1], regularizers={name: [0.0, 1.0]}, **options)
    found, expected = train_steps(swept, data, 4), train_steps(plain, data, 4)
    for metric in ("loss/total", "loss/td", "q/data", "grad/norm"):
        torch.testing.assert_close(found[metric][:1], expected[metric], rtol=1e-5, atol=1e-6)
    mine, yours = learner(swept).parameters, learner(plain).parameters
    for parameter in yours:
        torch.testing.assert_close(mine[parameter][:1], yours[parameter], rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(mine[parameter][0], mine[parameter][1]) for parameter in yours)


def test_a_run_alone_equals_the_run_among_others(case: Any) -> None:
    kind, data, options = case
    together, alone = (
        kind(data.spec, seeds=s, regularizers=EVERY, **options) for s in ([3, 4, 5], [4])
    )
    found, expected = train_steps(together, data, 4), train_steps(alone, data, 4)
    for name in expected:
        torch.testing.assert_close(found[name][1:2], expected[name], rtol=1e-3, atol=1e-4)
    for name, parameter in learner(alone).online.state_dict().items():
        torch.testing.assert_close(
            learner(together).online.state_dict()[name][1:2], parameter, rtol=1e-3, atol=1e-4
        )


def test_one_graph_that_equals_eager(case: Any) -> None:
    kind, data, options = case
    torch.compiler.reset()
    counters.clear()
    eager, traced = (kind(data.spec, seeds=2, regularizers=EVERY, **options) for _ in range(2))
    expected, found = (
        train_steps(eager, data, 3),
        train_steps(traced, data, 3, compiled(traced.update, "aot_eager")),
    )
    assert counters["stats"]["unique_graphs"] == 1
    assert_same(found, expected, exactly=False)
    assert_same(
        learner(traced).online.state_dict(), learner(eager).online.state_dict(), exactly=False
    )


def test_what_they_keep_is_in_the_checkpoint(case: Any, tmp_path: Any) -> None:
    kind, data, options = case
    agent = kind(data.spec, seeds=2, regularizers=EVERY, **options)
    train_steps(agent, data, 3)
    restored, _ = checkpoint.load_agent(checkpoint.save(tmp_path / "checkpoint.pt", agent, 3))
    kept = {
        name: value
        for name, value in learner(agent).online.state_dict().items()
        if name.startswith("terms.")
    }
    assert {name.partition(".")[2] for name in kept} == {
        "infer.heads",
        "infer.initial_heads",
        "pc_share.u",
    }
    assert_same(kept, learner(restored).online.state_dict())
    assert_same(train_steps(agent, data, 3), train_steps(restored, data, 3))


def test_the_penalties_on_weights_do_not_see_what_others_keep(case: Any) -> None:
    kind, data, options = case
    found = []
    for others in ({}, {"infer": 0.0}):
        agent = kind(
            data.spec,
            seeds=1,
            regularizers={"l2": 0.0, "path_norm": 0.0, "l2_init": 0.0, **others},
            **options,
        )
        found.append(train_steps(agent, data, 1))
    for name in ("reg/l2", "reg/path_norm", "reg/l2_init"):
        assert torch.equal(found[0][name], found[1][name])


def test_projections_leave_the_heads_alone(case: Any) -> None:
    kind, data, options = case
    agent = kind(
        data.spec,
        regularizers={"infer": 0.0},
        projections={"max_norm": {"radius": 0.01, "center": "zero"}},
        **options,
    )
    train_steps(agent, data, 1)
    parameters = learner(agent).parameters
    assert parameters["head.weight"].norm() < 0.1 < parameters["terms.infer.heads"].norm()


def test_infer_reads_the_features_of_the_initial_network() -> None:
    data = moves()
    agent = CQL(data.spec, regularizers={"infer": {"coef": 0.0, "beta": 1.0}}, **CONTINUOUS)
    first = train_steps(agent, data, 1)["reg/infer"]
    assert first.item() == pytest.approx(0, abs=1e-12)  # before the first step
    assert train_steps(agent, data, 3)["reg/infer"] > 1e-9


# --- refused when the agent is made ---


def test_beer_is_refused_without_a_next_value() -> None:
    data = rlop.load_dataset("gridworld?size=5&steps=200")
    with pytest.raises(
        InputError, match=r"regularizers.beer: needs a bootstrapped target, backup = mc has none"
    ):
        DQN(data.spec, regularizers={"beer": 0.1}, backup="mc", **DISCRETE)
    agent = DQN(
        data.spec,
        regularizers={name: 1e-3 for name in REGULARIZERS if name != "beer"},
        backup="mc",
        **DISCRETE,
    )
    assert train_steps(agent, data, 2)["loss/total"].isfinite().all()


def test_a_field_that_no_agent_gives_is_refused() -> None:
    @needs("next_feature")
    def mine(ctx: TDContext) -> Tensor:
        return ctx.q.mean(-1)

    data = moves()
    with pytest.raises(
        InputError, match=r"regularizers.mine: needs 'next_feature'.*did you mean 'next_features'"
    ):
        CQL(data.spec, regularizers={"mine": {"fn": mine, "coef": 1.0}}, **CONTINUOUS)


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
    assert all(value.isfinite().all() for value in train_steps(agent, data, 2).values())
