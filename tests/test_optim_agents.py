"""Every agent with every optimizer and noise: run axis, one graph, exact resumption, refusals."""

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import BC, CQL, DQN, DiscreteCQL

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import Table
from rlop.training.checkpoint import load_agent
from rlop.training.loop import compiled
from rlop.types import InputError

OPTIMIZERS = {
    "adam": ("adam", {"lr": 1e-3}, {}),
    "sgd": ({"sgd": {"momentum": 0.5}}, {"lr": 1e-2}, {"optimizer.momentum": 0.9}),
    "smd": ({"smd": {"q": 1.5, "reference": "init"}}, {"lr": 1e-2}, {"optimizer.q": 3.0}),
    "entropy": ({"smd": {"potential": "entropy"}}, {"lr": 1e-2}, {"lr": 1e-1}),
    "rmd": ({"rmd": {"lam": 1.0}}, {"lr": 1e-2}, {"optimizer.lam": 0.1, "optimizer.q": 1.8}),
}
SMALL = {"hidden": (8, 8), "batch_size": 8}
NOISE = {"target_noise": {"scale": 0.3, "off_after": 8}}


def moves():
    rng = np.random.default_rng(0)
    ends = np.arange(200) % 10 == 9
    obs, action = (
        rng.normal(size=(200, 3)).astype(np.float32),
        rng.uniform(-1, 1, size=(200, 2)).astype(np.float32),
    )
    return Dataset.from_arrays(
        obs, action, rng.normal(size=200), ends, ~ends & False, np.roll(obs, -1, 0)
    )


def make(kind, optimizer, tiny, **options):
    """The agent and its data."""
    chosen, defaults, _ = OPTIMIZERS[optimizer]
    options = {"optimizer": chosen, **defaults, **SMALL, **options}
    if kind == "CQL":
        data = moves()
        return CQL(data.spec, policy_hidden=(8,), action_samples=2, **NOISE, **options), data
    if kind == "BC":
        extra = {
            "label_noise": {"probability": 0.2, "off_after": 8},
            "logit_adjustment": {"gamma": 0.2},
        }
        return BC(tiny.spec, **extra, **options), tiny
    if kind == "DQN":
        return DQN(tiny.spec, regularizers={"dr3": 0.01}, target_period=3, **NOISE, **options), tiny
    return DiscreteCQL(
        tiny.spec, alpha=0.5, logit_adjustment={"tau": 0.5}, **NOISE, **options
    ), tiny


def learner(agent):
    return agent.learners["critics"] if isinstance(agent, CQL) else agent.main


def tensors(agent):
    """Parameters, and slacks where there are any, `[R, ...]` each."""
    parameters = [p.detach() for p in learner(agent).parameters.values()]
    return parameters + (
        [learner(agent).optimizer.slack.detach()] if learner(agent).slacks is not None else []
    )


CASES = [(k, o) for k in ("DQN", "CQL", "BC") for o in OPTIMIZERS] + [("DiscreteCQL", "rmd")]


@pytest.mark.parametrize(("kind", "optimizer"), CASES)
def test_a_run_alone_equals_itself_among_others(tiny, kind, optimizer):
    swept = {"plain": {}, "other": {"lr": 3e-3, **OPTIMIZERS[optimizer][2]}}
    many, data = make(kind, optimizer, tiny, seeds=[3, 4], variants=swept)
    alone, _ = make(kind, optimizer, tiny, seeds=[4], variants={"other": swept["other"]})
    start = [p.detach().clone() for p in learner(many).parameters.values()]
    among, metrics = train_steps(many, data, 15), train_steps(alone, data, 15)
    assert all(torch.isfinite(t).all() for t in tensors(many))
    assert not any(torch.equal(a[3], b[3]) for a, b in zip(start, tensors(many), strict=False))
    for a, b in zip(tensors(many), tensors(alone), strict=True):
        torch.testing.assert_close(a[3], b[0], rtol=1e-4, atol=1e-5)
    for key in metrics:
        assert metrics[key][0].item() == pytest.approx(among[key][3].item(), rel=1e-3, abs=1e-4), (
            key
        )


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("DQN", "sgd"), ("DiscreteCQL", "smd"), ("CQL", "rmd"), ("BC", "rmd")]
)
def test_compiled_equals_eager_in_one_graph(tiny, kind, optimizer):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    (eager, data), (graph, _) = (make(kind, optimizer, tiny, seeds=2) for _ in range(2))
    counter = CompileCounter()
    expected = train_steps(eager, data, 12)
    graph.prepare(data)
    found = train_steps(
        graph, data, 12, compiled(graph.update, backend=counter)
    )  # the noise ends at 8: no new graph
    assert counter.frame_count == 1
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)
    for a, b in zip(tensors(graph), tensors(eager), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("DQN", "rmd"), ("CQL", "rmd"), ("BC", "rmd"), ("DQN", "smd"), ("BC", "sgd")],
)
def test_a_resumed_training_equals_an_uninterrupted_one(tiny, kind, optimizer, tmp_path):
    quiet = {"log_every": 10, "probe_every": 0, "progress": False}
    (whole, data), (half, _), (rest, _) = (make(kind, optimizer, tiny, seeds=2) for _ in range(3))
    rlop.train(whole, data, 40, **quiet)
    rlop.train(half, data, 17, logdir=tmp_path, **quiet)
    rlop.train(rest, data, 40, logdir=tmp_path, resume=True, **quiet)
    for a, b in zip(tensors(whole), tensors(rest), strict=True):
        assert torch.equal(a, b)
    again, content = load_agent(tmp_path / "checkpoint.pt")  # without data
    assert content["step"] == 40
    for a, b in zip(tensors(again), tensors(whole), strict=True):
        assert torch.equal(a, b)


def test_a_diverging_run_is_frozen_and_its_neighbour_goes_on(tiny):
    for optimizer in ("sgd", "smd", "rmd"):
        wild = {"mad": {"lr": 1e18}, "calm": {}}
        agent, data = make("DQN", optimizer, tiny, variants=wild)
        alone, _ = make("DQN", optimizer, tiny, variants={"calm": {}})
        train_steps(agent, data, 40)
        train_steps(alone, data, 40)
        assert agent.active.tolist() == [False, True], optimizer
        for a, b in zip(tensors(agent), tensors(alone), strict=True):
            assert torch.isfinite(a).all()
            torch.testing.assert_close(a[1], b[0], rtol=1e-4, atol=1e-5)


def test_slacks_take_up_the_error_and_more_of_it_for_a_smaller_lambda(tiny):
    """Regression on returns until it settles: z = y - Q at the end, and Q is shrunk."""
    data = tiny.subset(np.arange(40))
    options = {
        "backup": "mc",
        "gamma": 0.5,
        "loss": "mse",
        "lr": 0.1,
        "hidden": (64,),
        "batch_size": 40,
    }
    agent = DQN(data.spec, optimizer={"rmd": {"lam": [0.03, 1.0, 1000.0]}}, **options)
    train_steps(agent, data, 800)
    batch = Table(agent.prepare(data).columns()).gather(
        torch.arange(len(agent.prepare(data))).expand(3, -1)
    )
    left = (
        batch.extra["mc_return"]
        - agent.q_values(batch.obs).gather(-1, batch.action[..., None])[..., 0]
    )
    slack = agent.main.optimizer.slack.detach()
    assert (left - slack).abs().mean(1)[0] < 0.1 * left.abs().mean(1)[0]
    assert slack.abs().mean(1)[0] > slack.abs().mean(1)[1] > slack.abs().mean(1)[2]
    moved = sum(
        (p - agent.main.initial[n]).square().flatten(1).sum(1)
        for n, p in agent.main.parameters.items()
    )
    assert moved[0] < moved[1] < moved[2]


def test_rmd_refuses_to_fit_random_labels_that_sgd_fits(tiny):
    few = tiny.subset(np.arange(60))
    options = {"hidden": (64,), "batch_size": 30, "lr": 0.4}
    plain = BC(tiny.spec, optimizer="sgd", **options)
    slacked = BC(tiny.spec, optimizer={"rmd": {"lam": 2.0}}, **options)
    ours, theirs = train_steps(slacked, few, 600), train_steps(plain, few, 600)
    assert theirs["policy/accuracy"].item() > 0.9
    assert ours["policy/accuracy"].item() < theirs["policy/accuracy"].item() - 0.1
    expected = (2 * ours["loss/bc"].item()) ** 0.5  # what z is to be
    assert ours["slack/abs"].item() == pytest.approx(expected, rel=0.3)


def test_slacks_start_anew_on_other_data_and_go_on_with_the_same(tiny):
    agent, _ = make("DQN", "rmd", tiny)
    train_steps(agent, tiny, 5)
    before = agent.main.optimizer.slack.detach().clone()
    agent.prepare(tiny)
    assert before.any()
    assert torch.equal(agent.main.optimizer.slack, before)
    agent.prepare(tiny.subset(np.arange(50)))
    assert agent.main.optimizer.slack.shape == (1, 50)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "DQN",
            {"optimizer": {"rmd": {"lam": 1}}, "max_grad_norm": 1.0},
            "max_grad_norm: not with optimizer rmd",
        ),
        (
            "BC",
            {"optimizer": {"rmd": {"lam": 1}}, "max_grad_norm": 1.0},
            "max_grad_norm: not with optimizer rmd",
        ),
        ("DQN", {"optimizer": "rmd"}, "optimizer.rmd.lam: missing"),
        ("DQN", {"optimizer": 3}, r"optimizer = 3: expected text or a mapping"),
        ("BC", {"optimizer": {"sgd": {}, "smd": {}}}, "expected one"),
        (
            "DQN",
            {"optimizer": {"rmd": {"lam": 1}}, "variants": {"x": {"optimizer.lam": 0}}},
            r"optimizer\.lam\[0\] = 0",
        ),
        (
            "DQN",
            {"variants": {"x": {"optimizer.lam": 1}}},
            "unknown hyper-parameter 'optimizer.lam'",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(tiny, kind, options, message):
    with pytest.raises(InputError, match=message) as caught:
        {"DQN": DQN, "BC": BC}[kind](tiny.spec, **options)
    assert "\n" not in str(caught.value)


def test_rmd_is_refused_for_continuous_cloning_and_clipped_critics():
    with pytest.raises(InputError, match="rmd: expected loss = cross_entropy, found mse"):
        BC(moves().spec, optimizer={"rmd": {"lam": 1}})
    with pytest.raises(InputError, match="max_grad_norm"):
        CQL(moves().spec, optimizer={"rmd": {"lam": 1}}, max_grad_norm=1.0)
