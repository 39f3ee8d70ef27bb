"""Several updates in a launch, and the compiled update: the same numbers as one by one, eager."""

import itertools

import numpy as np
import pytest
import torch
from helpers.agents import ROWS
from helpers.training import parameters_of
from rlop.agents import CQL, DQN, EDAC, SACN

import rlop
from rlop.data import Dataset
from rlop.logs.messages import LOGGER
from rlop.nets import Critics, reset_runs
from rlop.nets.pieces import one_by_one
from rlop.training.choice import TRIAL, CompileChoice, pays
from rlop.training.compile import Compiled, launch_size
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
    options = TrainOptions(steps=96, updates_per_launch=12, compile=False, **INTERVALS)
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


@pytest.mark.parametrize(
    ("common", "policy_period", "expected"), [(1000, 2, 20), (1000, 3, 1), (96, 3, 24), (7, 7, 7)]
)
def test_every_launch_has_as_many_whole_updates(common, policy_period, expected):
    target_period = policy_period
    assert launch_size([common], target_period, policy_period) == expected


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
            "rlop.training.loop.Compiled", lambda update: Compiled(update, backend=backend)
        )

    return set_backend


@pytest.mark.parametrize(
    ("steps", "options", "compiles"),
    [(24, {}, False), (48, {}, True), (48, {"compile": False}, False)],
)
def test_auto_decides_from_the_cost_of_the_first_updates_and_says_why(
    tiny, tmp_path, monkeypatch, caplog, steps, options, compiles
):
    """An update takes a second, by a clock that each look advances; 16 to come pay, 40 do too."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("rlop.training.choice.CACHED", 3.0)  # seconds, for a saving of 4 or 10
    monkeypatch.setattr("rlop.training.choice.COLD", 5.0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    made = []
    monkeypatch.setattr(
        "rlop.training.loop.Compiled",
        lambda update: made.append(update) or Compiled(update, backend="eager"),
    )
    caplog.set_level("INFO", logger=LOGGER.name)
    rlop.train(make(tiny), tiny, steps, **OFTEN, **options)
    assert bool(made) == compiles
    said = "an update takes 1000.00 ms, so compiling would save about 10 s of the 40 steps"
    assert (said in caplog.text) == compiles
    assert any(tmp_path.glob("rlop/*")) == compiles  # the next one like it starts faster


@pytest.mark.parametrize(
    ("update", "steps", "cost", "expected"),
    [
        (1e-3, 1000, 30, False),
        (1e-3, 119_000, 30, False),
        (1e-3, 121_000, 30, True),
        (1, 41, 10, True),
    ],
)
def test_compiling_pays_when_a_quarter_of_the_time_to_come_is_more(update, steps, cost, expected):
    assert pays(update, steps, cost) == expected


def test_a_decision_stands_after_a_resume_with_more_steps(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rlop.training.choice.has_compiler", lambda: True)
    monkeypatch.setattr("rlop.training.choice.pays", lambda update, steps, cost: False)
    schedule = {**OFTEN, "logdir": tmp_path / "run", "compile": "auto"}
    rlop.train(make(tiny), tiny, 24, **schedule)
    monkeypatch.setattr("rlop.training.choice.pays", lambda update, steps, cost: 1 / 0)
    rlop.train(make(tiny), tiny, 48, resume=True, **schedule)


def test_what_pytorch_has_in_its_cache_is_expected_to_start_faster(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    choice = CompileChoice(True, make(tiny), len(tiny))
    assert not choice.mark.exists()
    choice.remember()
    assert CompileChoice("auto", make(tiny), len(tiny)).mark.exists()
    assert not CompileChoice("auto", make(tiny, tau=0.5), len(tiny)).mark.exists()


def test_nothing_is_compiled_without_a_compiler(tiny, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert CompileChoice("auto", make(tiny), len(tiny)).compiles is False


def test_an_older_pytorch_is_refused_in_one_line(tiny, monkeypatch):
    monkeypatch.setattr("rlop.training.compile.can_compile", lambda: False)
    monkeypatch.setattr("rlop.training.choice.can_compile", lambda: False)
    choice = CompileChoice("auto", make(tiny), len(tiny))
    choice.seconds = [1.0] * TRIAL
    assert choice.decide(1000)
    assert choice.compiles is False
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
    graph = Compiled(update, backend="aot_eager")(obs, {"actions": actions})
    assert len(split) == 2
    torch.testing.assert_close(graph, eager, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(eager, at_once, rtol=1e-2, atol=1e-2)


SLOW = pytest.mark.slow
# PyTorch's own, when Inductor is first imported.
OF_INDUCTOR = pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")


WAYS = [  # backend, runs, updates of a call
    ("eager", 4, 6),
    ("eager", 8, 1),
    ("eager", 1, 6),
    ("inductor", 1, 6),
    ("inductor", 8, 6),
    ("inductor", 8, 1),
]
# In every run of the tests: each agent once, and what an update may hold beside its loss.
QUICK = {
    "DQN",
    "DQN noisy",
    "DQN quantiles",
    "DiscreteCQL infer",
    "CQL lagrange",
    "IQL squashed",
    "IQL rmd",
    "ReBRAC hl_gauss",
    "TD3BC",
    "EDAC",
    "BC noisy",
    "NeuralTD frobenius",
}


def compiled_rows():
    for name, row in ROWS.items():
        for way in WAYS:
            marks = () if name in QUICK and way == WAYS[0] else SLOW
            yield pytest.param(row, *way, id=f"{name}-{'-'.join(map(str, way))}", marks=marks)


def test_every_agent_is_compiled_in_every_run_of_the_tests():
    assert {row.agent for row in ROWS.values()} - {ROWS[name].agent for name in QUICK} == {SACN}
    assert issubclass(EDAC, SACN)


@OF_INDUCTOR
@pytest.mark.parametrize(("row", "backend", "runs", "size"), list(compiled_rows()))
def test_compiled_updates_one_or_several_a_call_equal_eager_ones(
    row, backend, runs, size, tiny, moves, compile_by
):
    torch._dynamo.reset()
    compile_by(backend)
    data = moves if row.continuous else tiny
    # Several runs differ in hyper-parameters, too: a number must not become part of the graph.
    options = {"seeds": runs, "variants": row.variants} if runs > 1 else {"seeds": runs}
    # A second layer makes the graph larger and shows nothing more.
    options |= {"hidden": (16,)} if "hidden" in row.options else {}
    plain, fast = row.make(data, **options), row.make(data, **options)
    if fast.target_period % 3:  # 6 would not fit
        size = min(size, 2)
    schedule = {"log_every": 6, "probe_every": 0, "progress": False}
    schedule |= {"eval_every": 0, "checkpoint_every": 0}
    expected = rlop.train(plain, data, 18, compile=False, **schedule)
    history = rlop.train(fast, data, 18, compile=True, updates_per_launch=size, **schedule)

    for name, parameter in parameters_of(plain).items():
        torch.testing.assert_close(parameters_of(fast)[name], parameter, rtol=1e-3, atol=1e-4)
    assert set(history.metrics) == set(expected.metrics)
    for name in history.metrics:
        if not name.startswith("time/"):
            found, wanted = history.get(name)[1], expected.get(name)[1]
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_compiled_update_reads_the_tensors_it_was_made_with_until_it_is_renewed():
    """It takes new rows and noise in every call, and a tensor that replaces another when told."""
    holder = {"table": torch.arange(4.0), "sum": torch.zeros(2)}

    def update(rows, noise):
        holder["sum"].add_(holder["table"][rows] + noise["xi"])

    graph = Compiled(update, backend="eager")
    graph(torch.tensor([0, 1]), {"xi": torch.zeros(2)})
    graph(torch.tensor([2, 3]), {"xi": torch.ones(2)})
    assert holder["sum"].tolist() == [3, 5]  # 0 + 2 + 1, 1 + 3 + 1

    holder["table"] = torch.full((4,), 10.0)
    graph.renew()
    for _ in range(2):
        graph(torch.tensor([0, 1]), {"xi": torch.zeros(2)})
    assert holder["sum"].tolist() == [23, 25]


@pytest.mark.slow
def test_many_compiled_trainings_in_a_process_do_not_share_a_limit(tiny, compile_by):
    compile_by("eager")
    for _ in range(torch._dynamo.config.recompile_limit + 1):
        rlop.train(make(tiny), tiny, 2, compile=True, progress=False)


def test_a_training_compiles_after_one_with_actions_of_another_size():
    rng = np.random.default_rng(0)
    obs, reward, ends = rng.normal(size=(40, 3)), np.ones(40), np.arange(40) % 8 == 7
    for size in (2, 3):
        action = rng.uniform(-0.9, 0.9, (40, size))
        data = Dataset.from_arrays(obs, action, reward, ends & False, ends, obs)
        small = {"hidden": (4,), "policy_hidden": (4,), "batch_size": 4, "action_samples": 2}
        loop = Loop(CQL(data.spec, **small), data, TrainOptions(compile=False))
        rows, noise = loop.feed.streams.next()
        loop.advance()
        Compiled(loop.gather_and_update, backend="eager")(rows, noise)


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
