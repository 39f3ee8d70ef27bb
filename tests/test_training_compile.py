"""Several updates in a launch, and the compiled update: the same numbers as one by one, eager."""

import numpy as np
import pytest
import torch
from helpers.training import parameters_of
from rlop.agents import DQN

import rlop
from rlop.logs.messages import LOGGER
from rlop.nets import Critics, reset_runs
from rlop.nets.pieces import one_by_one
from rlop.training.compile import compiled, launch_size, pays
from rlop.training.loop import Loop
from rlop.training.options import TrainOptions
from rlop.types import InputError

INTERVALS = {"log_every": 24, "probe_every": 48, "eval_every": 0, "checkpoint_every": 0}
OFTEN = {**INTERVALS, "progress": False}


def make(tiny, **options):
    return DQN(tiny.spec, seeds=2, lr=[1e-3, 1e-2], hidden=(8, 8), batch_size=8, **options)


# --- launches


@pytest.mark.parametrize(("period", "size"), [(1, 24), (3, 12), (12, 4), (48, 24), (7, 1)])
def test_a_launch_of_many_updates_equals_one_by_one(tiny, period, size):
    single, many = make(tiny, target_period=period), make(tiny, target_period=period)
    expected = rlop.train(single, tiny, 96, **OFTEN)
    history = rlop.train(many, tiny, 96, updates_per_launch=size, **OFTEN)

    for name, parameter in parameters_of(single).items():
        assert torch.equal(parameters_of(many)[name], parameter), name
    for ours, theirs in zip(many.target.parameters(), single.target.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for name in ("loss/td", "q/target", "rank/srank"):
        np.testing.assert_allclose(history.get(name)[1], expected.get(name)[1], rtol=1e-6)


def test_after_a_resume_at_an_odd_step_launches_line_up_again(tiny):
    options = TrainOptions(steps=96, updates_per_launch=12, **INTERVALS)
    loop = Loop(make(tiny, target_period=1), tiny, options)
    loop.step = 10
    sizes = []
    while loop.step < 96:
        sizes.append(loop.advance())
    assert sizes == [1, 1, *[12] * 7]


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
    message = "updates_per_launch = 5: expected a divisor of steps and all intervals"
    with pytest.raises(InputError, match=message):
        rlop.train(make(tiny), tiny, 96, updates_per_launch=5, **OFTEN)
    with pytest.raises(InputError, match="multiple of target_period = 7"):
        rlop.train(make(tiny, target_period=7), tiny, 96, updates_per_launch=4, **OFTEN)


# --- compilation


@pytest.fixture
def compile_by(monkeypatch):
    """Let trainings compile with this backend of PyTorch."""

    def set_backend(backend):
        monkeypatch.setattr(
            "rlop.training.loop.compiled", lambda update: compiled(update, backend=backend)
        )

    return set_backend


@pytest.mark.parametrize(
    ("steps", "options", "compiles"),
    [(24, {}, False), (48, {}, True), (48, {"compile": False}, False)],
)
def test_compilation_is_decided_by_the_number_of_steps_and_said(
    tiny, monkeypatch, caplog, steps, options, compiles
):
    monkeypatch.setattr("rlop.training.compile.PAYS_FROM", 48)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("rlop.training.loop.compiled", lambda update: update)
    caplog.set_level("INFO", logger=LOGGER.name)
    rlop.train(make(tiny), tiny, steps, **OFTEN, **options)
    assert (f"compiling the update for {steps} steps" in caplog.text) == compiles


def test_nothing_is_compiled_without_a_compiler(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not pays(10**9)


def test_an_older_pytorch_is_refused_in_one_line(tiny, monkeypatch):
    monkeypatch.setattr("rlop.training.compile.can_compile", lambda: False)
    assert not pays(10**9)
    with pytest.raises(InputError, match=r"compile = true: PyTorch .* is too old"):
        rlop.train(make(tiny), tiny, 2, compile=True, progress=False)


def test_compiled_pieces_equal_eager_ones(monkeypatch):
    """Critics value their candidates in pieces, in a compiled update too.

    That piece is all of an update that depends on it: every agent's own is compiled in
    `test_agents.py`. Each chunk is unrolled, so there are a full and a smaller one.
    """
    critics = Critics(3, 2, (2, 2), (16, 16), precision="bf16")
    reset_runs(critics, [0, 1])
    parameters = list(critics.parameters())
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(2, 3, 3, generator=generator)
    actions = torch.rand(2, 3, 4, 2, generator=generator)

    def update(obs, noise):
        values = critics.values(obs, noise["actions"])
        gradients = torch.autograd.grad(values.square().sum(), parameters)
        return {"values": values.detach(), **dict(zip(map(str, range(9)), gradients))}

    at_once = update(obs, {"actions": actions})
    split = []
    monkeypatch.setattr("rlop.nets.pieces.ROWS", 8)
    monkeypatch.setattr("rlop.nets.critic.ROWS", 8)
    monkeypatch.setattr(
        "rlop.nets.critic.one_by_one", lambda module: split.append(1) or one_by_one(module)
    )
    torch._dynamo.reset()
    eager = update(obs, {"actions": actions})
    graph = compiled(update, backend="aot_eager")(obs, {"actions": actions})
    assert len(split) == 2
    torch.testing.assert_close(graph, eager, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(eager, at_once, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_many_compiled_trainings_in_a_process_do_not_share_a_limit(tiny, compile_by):
    compile_by("eager")
    for _ in range(torch._dynamo.config.recompile_limit + 1):
        rlop.train(make(tiny), tiny, 2, compile=True, progress=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiles", [False, True])
def test_a_recorded_launch_equals_updates_one_by_one(tiny, compiles):
    single = make(tiny, target_period=3, device="cuda")
    many = make(tiny, target_period=3, device="cuda")
    rlop.train(single, tiny, 96, updates_per_launch=1, compile=False, **OFTEN)
    rlop.train(many, tiny, 96, updates_per_launch=24, compile=compiles, **OFTEN)
    for name, parameter in parameters_of(single).items():
        torch.testing.assert_close(parameters_of(many)[name], parameter, rtol=1e-4, atol=1e-5)


def test_launches_and_single_updates_reset_alike_when_the_target_moves_at_every_step(tiny):
    """The target takes part in the update before a reset, whether or not it moves in a launch."""
    resets = {"every": 4, "kind": "shrink_and_perturb"}
    parameters = []
    for size in (1, 2, 4):
        agent = DQN(tiny.spec, hidden=(8,), batch_size=8, target_period=1, tau=0.1, resets=resets)
        rlop.train(
            agent,
            tiny,
            12,
            updates_per_launch=size,
            log_every=4,
            probe_every=0,
            eval_every=0,
            checkpoint_every=0,
            progress=False,
        )
        flat = [p.detach().flatten() for p in agent.target.parameters()]
        parameters.append(torch.cat(flat))
    assert torch.equal(parameters[0], parameters[1])
    assert torch.equal(parameters[0], parameters[2])
