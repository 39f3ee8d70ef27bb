"""Every agent with every optimizer and noise: run axis, one graph, exact resumption, refusals."""

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import BC, CQL, DQN, DiscreteCQL

import rlop
from rlop.data.sampler import Table
from rlop.training.checkpoint import load_agent
from rlop.training.compile import Compiled
from rlop.types import InputError

# name -> option, learning rate, values of a second variant
OPTIMIZERS = {
    "adam": ("adam", 1e-3, {}),
    "sgd": ({"sgd": {"momentum": 0.5}}, 1e-2, {"optimizer.momentum": 0.9}),
    "smd": ({"smd": {"q": 1.5, "reference": "init"}}, 1e-2, {"optimizer.q": 3.0}),
    "entropy": ({"smd": {"potential": "entropy"}}, 1e-2, {"lr": 1e-1}),
    "rmd": ({"rmd": {"lam": 1.0}}, 1e-2, {"optimizer.lam": 0.1, "optimizer.q": 1.8}),
}
TARGET_NOISE = {"target_noise": {"scale": 0.3, "off_after": 8}}
AGENTS = {
    "DQN": (DQN, {"regularizers": {"dr3": 0.01}, "target_period": 3, **TARGET_NOISE}),
    "CQL": (CQL, {"policy_hidden": (8,), "action_samples": 2, **TARGET_NOISE}),
    "BC": (
        BC,
        {
            "label_noise": {"probability": 0.2, "off_after": 8},
            "logit_adjustment": {"gamma": 0.2},
        },
    ),
    "DiscreteCQL": (DiscreteCQL, {"alpha": 0.5, "logit_adjustment": {"tau": 0.5}, **TARGET_NOISE}),
}
CASES = [(kind, name) for kind in ("DQN", "CQL", "BC") for name in OPTIMIZERS]
CASES.append(("DiscreteCQL", "rmd"))


@pytest.fixture
def data_of(tiny, moves):
    """Agent's name -> a data set with its kind of actions."""
    return lambda kind: moves if kind == "CQL" else tiny


def make(kind, optimizer, data, **options):
    """A small agent with noise."""
    cls, fixed = AGENTS[kind]
    chosen, lr, _ = OPTIMIZERS[optimizer]
    small = {"hidden": (8, 8), "batch_size": 8, "optimizer": chosen, "lr": lr}
    return cls(data.spec, **{**small, **fixed, **options})


def tensors(agent):
    """Parameters of the main network, and slacks where there are any, `[R, ...]` each."""
    everything = [p.detach() for p in agent.main.parameters.values()]
    if agent.main.slacks is not None:
        everything.append(agent.main.slacks.slack.detach())
    return everything


@pytest.mark.parametrize(("kind", "optimizer"), CASES)
def test_a_run_alone_equals_itself_among_others(data_of, kind, optimizer):
    data = data_of(kind)
    other = {"lr": 3e-3, **OPTIMIZERS[optimizer][2]}
    many = make(kind, optimizer, data, seeds=[3, 4], variants={"plain": {}, "other": other})
    alone = make(kind, optimizer, data, seeds=[4], variants={"other": other})
    start = [p.detach().clone() for p in many.main.parameters.values()]

    among = train_steps(many, data, 11)
    single = train_steps(alone, data, 11)
    for before, after in zip(start, tensors(many), strict=False):
        assert not torch.equal(before[3], after[3])
    for ours, theirs in zip(tensors(many), tensors(alone), strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours[3], theirs[0], rtol=1e-4, atol=1e-5)
    for key, value in single.items():
        expected = pytest.approx(among[key][3].item(), rel=1e-3, abs=1e-4)
        assert value[0].item() == expected, key


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        ("DQN", "sgd"),
        ("DiscreteCQL", "smd"),
        ("BC", "rmd"),
        # Slow because IQL with rmd and two critics is compiled in test_training_compile.py.
        pytest.param("CQL", "rmd", marks=pytest.mark.slow),
    ],
)
def test_compiled_equals_eager_in_one_graph(data_of, kind, optimizer):
    """The noise ends at step 8, which makes no new graph."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    data = data_of(kind)
    eager = make(kind, optimizer, data, seeds=2)
    graph = make(kind, optimizer, data, seeds=2)
    graph.prepare(data)
    counter = CompileCounter()

    expected = train_steps(eager, data, 12)
    metrics = train_steps(graph, data, 12, Compiled(graph.update, backend=counter))
    assert counter.frame_count == 1
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(tensors(graph), tensors(eager), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("DQN", "rmd"), ("CQL", "rmd"), ("BC", "rmd"), ("DQN", "smd"), ("BC", "sgd")],
)
def test_a_resumed_training_equals_an_uninterrupted_one(data_of, kind, optimizer, tmp_path):
    data = data_of(kind)
    whole, half, rest = (make(kind, optimizer, data, seeds=2) for _ in range(3))
    quiet = {"log_every": 10, "probe_every": 0, "progress": False}
    rlop.train(whole, data, 24, **quiet)
    rlop.train(half, data, 7, logdir=tmp_path, **quiet)
    rlop.train(rest, data, 24, logdir=tmp_path, resume=True, **quiet)

    without_data, content = load_agent(tmp_path / "checkpoint.pt")
    assert content["step"] == 24
    for agent in (rest, without_data):
        for ours, theirs in zip(tensors(agent), tensors(whole), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", ["sgd", "smd", "rmd"])
def test_a_diverging_run_is_frozen_and_its_neighbor_goes_on(tiny, optimizer):
    variants = {"mad": {"lr": 1e18}, "calm": {}}
    both = make("DQN", optimizer, tiny, variants=variants)
    alone = make("DQN", optimizer, tiny, variants={"calm": {}})
    train_steps(both, tiny, 15)
    train_steps(alone, tiny, 15)
    assert both.active.tolist() == [False, True]
    for ours, theirs in zip(tensors(both), tensors(alone), strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours[1], theirs[0], rtol=1e-4, atol=1e-5)

    # The frozen run keeps its bits from now on, its momentum included.
    frozen = [tensor[0].clone() for tensor in tensors(both)]
    train_steps(both, tiny, 5)
    for before, after in zip(frozen, tensors(both), strict=True):
        assert torch.equal(after[0], before)


# --- slacks ---


def test_slacks_take_up_the_error_and_more_of_it_for_a_smaller_lambda(tiny):
    """Regression on returns until it settles: z = y - Q at the end, and Q is shrunk."""
    data = tiny.subset(np.arange(40))
    network = {"hidden": (64,), "batch_size": 40, "lr": 0.1}
    optimizer = {"rmd": {"lam": [0.03, 1.0, 1000.0]}}
    agent = DQN(data.spec, optimizer=optimizer, backup="mc", gamma=0.5, loss="mse", **network)
    train_steps(agent, data, 800)

    prepared = agent.prepare(data)
    batch = Table(prepared.columns()).gather(torch.arange(len(prepared)).expand(3, -1))
    q = agent.q_values(batch.obs).gather(-1, batch.action[..., None])[..., 0]
    error = batch.extra["mc_return"] - q
    slack = agent.main.slacks.slack.detach()
    assert (error - slack).abs().mean(1)[0] < 0.1 * error.abs().mean(1)[0]

    size = slack.abs().mean(1)
    assert size[0] > size[1] > size[2]
    moved = torch.zeros(3)
    for name, p in agent.main.parameters.items():
        moved += (p.detach() - agent.main.initial[name]).square().flatten(1).sum(1)
    assert moved[0] < moved[1] < moved[2]


def test_rmd_refuses_to_fit_random_labels_that_sgd_fits(tiny):
    few = tiny.subset(np.arange(60))
    options = {"hidden": (64,), "batch_size": 30, "lr": 0.4}
    slacked = BC(tiny.spec, optimizer={"rmd": {"lam": 2.0}}, **options)
    plain = BC(tiny.spec, optimizer="sgd", **options)

    ours = train_steps(slacked, few, 600)
    theirs = train_steps(plain, few, 600)
    assert theirs["policy/accuracy"].item() > 0.9
    assert ours["policy/accuracy"].item() < theirs["policy/accuracy"].item() - 0.1
    fixed_point = (2 * ours["loss/bc"].item()) ** 0.5  # of z
    assert ours["slack/abs"].item() == pytest.approx(fixed_point, rel=0.3)


def test_slacks_restart_on_other_data_and_go_on_with_the_same(tiny):
    agent = make("DQN", "rmd", tiny)
    train_steps(agent, tiny, 5)
    before = agent.main.slacks.slack.detach().clone()
    assert before.any()

    agent.prepare(tiny)
    assert torch.equal(agent.main.slacks.slack, before)
    agent.prepare(tiny.subset(np.arange(50)))
    assert agent.main.slacks.slack.shape == (1, 50)


# --- refusals ---

RMD = {"rmd": {"lam": 1}}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DQN, {"optimizer": RMD, "max_grad_norm": 1.0}, "max_grad_norm: not with optimizer rmd"),
        (BC, {"optimizer": RMD, "max_grad_norm": 1.0}, "max_grad_norm: not with optimizer rmd"),
        (CQL, {"optimizer": RMD, "max_grad_norm": 1.0}, "max_grad_norm: not with optimizer rmd"),
        (DQN, {"optimizer": "rmd"}, "optimizer.rmd.lam: missing"),
        (DQN, {"optimizer": 3}, r"optimizer = 3: expected text or a mapping"),
        (BC, {"optimizer": {"sgd": {}, "smd": {}}}, "expected one"),
        (
            DQN,
            {"optimizer": RMD, "variants": {"x": {"optimizer.lam": 0}}},
            r"optimizer\.lam\[0\] = 0",
        ),
        (
            DQN,
            {"variants": {"x": {"optimizer.lam": 1}}},
            "unknown hyper-parameter 'optimizer.lam'",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(data_of, kind, options, message):
    data = data_of(kind.__name__)
    with pytest.raises(InputError, match=message) as caught:
        kind(data.spec, **options)
    assert "\n" not in str(caught.value)


def test_rmd_is_refused_for_continuous_cloning(moves):
    with pytest.raises(InputError, match="rmd: expected loss = cross_entropy, found mse"):
        BC(moves.spec, optimizer=RMD)


def test_rmd_is_refused_where_a_loss_takes_no_slack(tiny):
    class Rigid(DQN):
        def losses(self, batch, noise):
            extra = {key: column for key, column in batch.extra.items() if key != "slack"}
            return super().losses(batch._replace(extra=extra), noise)

    agent = Rigid(tiny.spec, hidden=(8,), batch_size=8, optimizer={"rmd": {"lam": 3.0}})
    with pytest.raises(InputError, match="optimizer = rmd: the agent's loss has no slack"):
        train_steps(agent, tiny, 1)
