"""Several updates in a launch, and the compiled update: the numbers of one by one and eager."""

import numpy as np
import pytest
import torch
from rlop.agents import CQL, DQN

import rlop
from rlop.data.dataset import Dataset
from rlop.training import compile as launch
from rlop.training.compile import compiled, launch_size, pays
from rlop.training.loop import Loop, TrainOptions
from rlop.types import InputError

OFTEN = {
    "log_every": 24,
    "probe_every": 48,
    "eval_every": 0,
    "checkpoint_every": 0,
    "progress": False,
}


def make(tiny, **options):
    return DQN(tiny.spec, seeds=2, lr=[1e-3, 1e-2], hidden=(8, 8), batch_size=8, **options)


@pytest.fixture
def moves() -> Dataset:
    rng = np.random.default_rng(0)
    obs, ends = rng.normal(size=(101, 3)).astype(np.float32), np.arange(100) % 10 == 9
    action = rng.uniform(-1, 1, (100, 2)).astype(np.float32)
    reward = rng.normal(size=100).astype(np.float32)
    return Dataset.from_arrays(obs[:-1], action, reward, ends, np.zeros(100, bool), obs[1:])


@pytest.mark.parametrize(("period", "size"), [(1, 24), (3, 12), (12, 4), (48, 24), (7, 1)])
def test_a_launch_of_many_updates_equals_one_by_one(tiny, period, size):
    single, many = make(tiny, target_period=period), make(tiny, target_period=period)
    expected = rlop.train(single, tiny, 96, **OFTEN)
    found = rlop.train(many, tiny, 96, updates_per_launch=size, **OFTEN)
    for ours, theirs in zip(many.main.parameters.values(), single.main.parameters.values()):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(many.target.parameters(), single.target.parameters()):
        assert torch.equal(ours, theirs)
    for name in ("loss/td", "q/target", "rank/srank"):
        np.testing.assert_allclose(found.get(name)[1], expected.get(name)[1], rtol=1e-6)


def test_after_a_resume_at_an_odd_step_launches_line_up_again(tiny):
    loop = Loop(
        make(tiny, target_period=1),
        tiny,
        TrainOptions(steps=96, updates_per_launch=12, **without()),
        None,
    )
    loop.step = 10
    sizes = []
    while loop.step < 96:
        sizes.append(loop.advance()[0].size)
    assert sizes == [1, 1, *[12] * 7]


def without():
    return {name: value for name, value in OFTEN.items() if name != "progress"}


@pytest.mark.parametrize(
    ("intervals", "period", "expected"),
    [
        ((100_000, 1000, 1000, 10_000, 50_000), 1, 25),
        ((100_000, 1000, 0, 0, 0), 500, 25),
        ((1_000_000, 4096, 0, 0, 0), 8000, 32),
        ((99_991, 1000, 0, 0, 0), 1, 1),  # a prime number of steps
        ((960, 96, 0, 0, 0), 7, 1),
        ((0, 0, 0, 0, 0), 4, 32),
    ],
)
def test_launch_size_by_hand(intervals, period, expected):
    assert launch_size(intervals, period) == expected


def test_a_launch_that_does_not_fit_is_refused(tiny):
    with pytest.raises(
        InputError, match="updates_per_launch = 5: expected a divisor of steps and all intervals"
    ):
        rlop.train(make(tiny), tiny, 96, updates_per_launch=5, **OFTEN)
    with pytest.raises(InputError, match="multiple of target_period = 7"):
        rlop.train(make(tiny, target_period=7), tiny, 96, updates_per_launch=4, **OFTEN)


def test_compilation_is_decided_by_the_number_of_steps_and_said(tiny, monkeypatch, caplog):
    monkeypatch.setattr(launch, "PAYS_FROM", 48)
    monkeypatch.setattr("rlop.training.loop.compiled", lambda update: update)
    assert not pays(47)
    rlop.train(make(tiny), tiny, 24, **OFTEN)
    assert "compiling" not in caplog.text
    rlop.train(make(tiny), tiny, 48, **OFTEN)
    assert "compiling the update for 48 steps" in caplog.text
    caplog.clear()
    rlop.train(make(tiny), tiny, 48, compile=False, **OFTEN)
    assert "compiling" not in caplog.text
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not pays(10**9)  # without a C++ compiler


def test_compiled_pieces_equal_eager_ones(moves, monkeypatch):
    monkeypatch.setattr("rlop.nets.pieces.ROWS", 64)
    monkeypatch.setattr("rlop.nets.critic.ROWS", 64)
    torch._dynamo.reset()
    options = {
        "hidden": (16, 16),
        "policy_hidden": (8,),
        "batch_size": 16,
        "action_samples": 4,
        "precision": "bf16",
    }
    eager, graph = (
        CQL(moves.spec, seeds=2, regularizers={"dr3": 0.01}, **options) for _ in range(2)
    )
    loops = [
        Loop(agent, moves, TrainOptions(steps=10, compile=False), None) for agent in (eager, graph)
    ]
    loops[1].launches.update = compiled(loops[1].one_update, backend="aot_eager")
    for _ in range(10):
        for loop in loops:
            loop.advance()
    for name, p in eager.learners["critics"].parameters.items():
        torch.testing.assert_close(
            graph.learners["critics"].parameters[name], p, rtol=1e-3, atol=1e-4
        )


def test_many_compiled_trainings_in_a_process_do_not_share_a_limit(tiny, monkeypatch):
    monkeypatch.setattr(
        "rlop.training.loop.compiled", lambda update: compiled(update, backend="eager")
    )
    for _ in range(torch._dynamo.config.recompile_limit + 1):
        rlop.train(make(tiny), tiny, 2, compile=True, progress=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compile", [False, True])
def test_a_recorded_launch_equals_updates_one_by_one(tiny, compile):
    single, many = (make(tiny, target_period=3, device="cuda") for _ in range(2))
    rlop.train(single, tiny, 96, updates_per_launch=1, compile=False, **OFTEN)
    rlop.train(many, tiny, 96, updates_per_launch=24, compile=compile, **OFTEN)
    for ours, theirs in zip(many.main.parameters.values(), single.main.parameters.values()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
