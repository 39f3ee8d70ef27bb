"""Heads of DQN: losses against float64 NumPy twins, the run axis, one graph, a known Q*."""

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import DQN, DiscreteCQL
from rlop.agents.dqn_config import PRESETS
from rlop.agents.heads import HEADS, make_head

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table
from rlop.training.checkpoint import load_agent
from rlop.training.evaluate import make_evaluator
from rlop.training.loop import compiled
from rlop.types import InputError

SIDE = 36  # the smallest image that the Nature network takes
CASES = {
    "scalar": "scalar",
    "ensemble": {"ensemble": {"n": 4}},
    "rem": {"rem": {"n": 4, "num_convex_combinations": 2}},
    "quantile": {"quantile": {"n": 5}},
    "categorical": {"categorical": {"n": 7, "v_min": -2.0, "v_max": 2.0}},
    "hl_gauss": {"hl_gauss": {"n": 9, "v_min": -2.0, "v_max": 2.0}},
}
SMALL = {"hidden": (8, 8), "batch_size": 8, "target_period": 3, "lr": 1e-3}
BACKUPS = ("max", "double", "sarsa", "behaviour", "mc")


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 256, (40, 4, SIDE, SIDE), dtype=np.uint8)
    ends = np.arange(40) % 10 == 9
    return Dataset.from_arrays(
        obs, rng.integers(0, 3, 40), rng.normal(size=40), ends, ends & False, np.roll(obs, -1, 0)
    )


def parameters(agent):
    return [p.detach() for p in agent.online.parameters()]


def conv(x, weight, bias, stride):
    k = weight.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[
        :, :, ::stride, ::stride
    ]
    return np.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]


def forward(p, x):
    """Features and outputs of the Nature network, float64."""
    for i, stride in enumerate((4, 2, 1)):
        x = np.maximum(conv(x, p[f"torso.convs.{i}.weight"], p[f"torso.convs.{i}.bias"], stride), 0)
    x = np.maximum(x.reshape(len(x), -1) @ p["torso.hidden.weight"].T + p["torso.hidden.bias"], 0)
    return x, x @ p["head.weight"].T + p["head.bias"]


def huber(e):
    return np.where(np.abs(e) <= 1, 0.5 * e**2, np.abs(e) - 0.5)


def td_scalar(z, next_z, a, backed_up, noise):
    q, next_q = z[..., 0], next_z[..., 0]
    return huber(q[np.arange(len(a)), a] - backed_up(next_q.max(1))), q


def td_quantile(z, next_z, a, backed_up, noise):
    loss, best = np.zeros(len(a)), next_z.mean(-1).argmax(1)
    for b in range(len(a)):
        theta, k = z[b, a[b]], z.shape[-1]
        for i in range(k):
            for j in range(k):
                u = backed_up(next_z[np.arange(len(a)), best, j])[b] - theta[i]
                loss[b] += abs((i + 0.5) / k - (u < 0)) * huber(u) / k
    return loss, z.mean(-1)


def td_rem(z, next_z, a, backed_up, noise):
    alpha = noise["mixture"].double().numpy()
    alpha = alpha / alpha.sum(0)
    q, next_q = z @ alpha, next_z @ alpha  # [B, A, C]
    errors = [
        q[np.arange(len(a)), a, c] - backed_up(next_q[..., c].max(1)) for c in range(alpha.shape[1])
    ]
    return np.mean([huber(e) for e in errors], axis=0), q.mean(-1)


@pytest.mark.parametrize(
    ("name", "td_loss"), [("scalar", td_scalar), ("quantile", td_quantile), ("rem", td_rem)]
)
def test_loss_with_cql_and_dr3_equals_a_float64_numpy_twin_on_frames(frames, name, td_loss):
    swept = {"plain": {}, "all": {"alpha": 0.5, "regularizers.dr3": 0.03, "gamma": 0.9}}
    agent = DQN(
        frames.spec,
        seeds=[3],
        variants=swept,
        head=CASES[name],
        network="nature",
        hidden=(16,),
        batch_size=6,
    )
    train_steps(agent, frames, 3)  # so that the target network differs
    rows, streams = torch.arange(12).expand(2, -1), Streams([3, 3], 6, 40, agent.noise)
    batch, noise = Table(frames.columns()).gather(rows), streams.next()[1]
    loss, metrics = agent.loss(batch, noise)
    for run, (alpha, coef, gamma) in enumerate([(0.0, 0.0, 0.99), (0.5, 0.03, 0.9)]):
        online, target = (
            {k: v[run].detach().double().numpy() for k, v in net.named_parameters()}
            for net in (agent.online, agent.target)
        )
        s, s2 = (x[run].double().numpy() / 255 for x in (batch.obs, batch.next_obs))
        (phi, z), (phi2, _), (_, next_z) = (
            forward(online, s),
            forward(online, s2),
            forward(target, s2),
        )
        z, next_z = (x.reshape(12, 3, -1) for x in (z, next_z))
        alive, a = 1 - batch.terminated[run].double().numpy(), batch.action[run].numpy()
        reward = batch.reward[run].double().numpy()
        td, q = td_loss(
            z,
            next_z,
            a,
            lambda v, r=reward, g=gamma, k=alive: r + g * k * v,
            {k: v[run] for k, v in noise.items()},
        )
        gap = np.log(np.exp(q).sum(1)) - q[np.arange(12), a]
        expected = td.mean() + alpha * gap.mean() + coef * ((phi * phi2).sum(1) * alive).mean()
        assert loss[run].item() == pytest.approx(expected, rel=1e-5)
        assert metrics["loss/td"][run].item() == pytest.approx(td.mean(), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backup", BACKUPS)
def test_every_backup_gives_a_finite_loss_with_gradient_in_every_head(tiny, name, backup):
    data = (
        rlop.load_dataset("gridworld?size=4&steps=300") if backup == "behaviour" else tiny
    )  # states repeat
    agent = DQN(data.spec, head=CASES[name], backup=backup, **SMALL)
    before = [p.clone() for p in parameters(agent)]
    metrics = train_steps(agent, data, 2)
    assert all(torch.isfinite(value).all() for value in metrics.values())
    assert all((a != b).any() for a, b in zip(before, parameters(agent), strict=True))
    obs = torch.zeros(1, 4, *data.spec.obs_shape)
    assert agent.q_values(obs).shape == (1, 4, data.spec.n_actions)


@pytest.mark.parametrize("name", [n for n in CASES if n != "scalar"])
def test_a_run_alone_equals_the_same_run_among_others(tiny, name):
    options = {"head": CASES[name], "regularizers": {"dr3": 0.01}, "alpha": 0.1, **SMALL}
    many, alone = DQN(tiny.spec, seeds=[3, 4, 5], **options), DQN(tiny.spec, seeds=[4], **options)
    train_steps(many, tiny, 10)
    train_steps(alone, tiny, 10)
    for a, b in zip(parameters(many), parameters(alone), strict=True):
        torch.testing.assert_close(a[1], b[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["rem", "quantile", "categorical"])
def test_the_update_is_one_graph_with_the_same_numbers(tiny, name):
    options = {"head": CASES[name], "backup": "double", "alpha": 0.1, **SMALL}
    plain, graph = DQN(tiny.spec, seeds=2, **options), DQN(tiny.spec, seeds=2, **options)
    train_steps(plain, tiny, 4)
    train_steps(graph, tiny, 4, compiled(graph.update, backend="eager"))
    for a, b in zip(parameters(plain), parameters(graph), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quantile", {"n": 20}),
        ("categorical", {"n": 41, "v_min": -0.5, "v_max": 1.5}),
        ("hl_gauss", {"n": 40, "v_min": -0.5, "v_max": 1.5}),
        ("rem", {"n": 5}),
        ("ensemble", {"n": 3}),
    ],
)
def test_learns_the_values_of_a_chain(name, options):
    data = rlop.load_dataset("chain?length=6")
    agent = DQN(
        data.spec,
        head={name: options},
        gamma=0.9,
        hidden=(32,),
        lr=3e-3,
        target_period=20,
        batch_size=32,
        tau=1.0,
    )
    history = rlop.train(
        agent, data, 800, evaluate=make_evaluator(agent, data.spec.env_id, {}, 1), progress=False
    )
    assert history.get("eval/q_error_max")[1][-1].max() < 0.08
    assert history.get("eval/q_error_max")[1][0].min() > 0.3


def test_rem_shares_one_mixture_between_both_networks_and_acts_on_the_mean(tiny):
    agent = DQN(tiny.spec, head={"rem": {"n": 3}}, **SMALL)
    obs = torch.randn(1, 5, *tiny.spec.obs_shape)
    noise = {"mixture": torch.rand(1, 3, 1)}
    torch.testing.assert_close(
        *(agent.outputs(net, obs, noise)[1] for net in (agent.online, agent.target))
    )
    z = agent.online(obs)[1].unflatten(-1, (-1, 3))
    torch.testing.assert_close(agent.q_values(obs), z.mean(-1))


def test_checkpoint_keeps_the_head(tiny, tmp_path):
    agent = DQN(tiny.spec, head=CASES["quantile"], **SMALL)
    rlop.train(agent, tiny, 5, logdir=tmp_path, progress=False)
    again, _ = load_agent(tmp_path / "checkpoint.pt")
    assert again.head == agent.head
    obs = torch.randn(1, 5, *tiny.spec.obs_shape)
    torch.testing.assert_close(again.q_values(obs), agent.q_values(obs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "quantil"}, "quantile"),
        ({"head": {"quantile": {"m": 3}}}, "unknown key 'head.quantile.m'"),
        ({"head": {"quantile": {"n": 0}}}, "n = 0"),
        ({"head": {"categorical": {"v_min": 1, "v_max": 0}}}, "v_min < v_max"),
        ({"head": {"rem": {}, "quantile": {}}}, "expected one of them"),
        ({"head": "quantile", "loss": "mse"}, "loss = mse: not with head quantile"),
        ({"head": "rem", "target_noise": {"scale": 0.1}}, "target_noise: not with head rem"),
        (
            {"head": {"ensemble": {}}, "optimizer": {"rmd": {"lam": 1.0}}},
            "rmd: not with head ensemble",
        ),
        ({"preset": "atari/c51"}, "atari/"),
        ({"network": "impala", "resets": {"every": 10, "kind": "redo"}}, "not with network impala"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tiny, options, message):
    with pytest.raises(InputError, match=message):
        DQN(tiny.spec, **options)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_an_agent_for_frames_and_give_way_to_options(frames, name):
    agent = DiscreteCQL(frames.spec, preset=name, batch_size=4, hidden=(8,))
    assert agent.config.batch_size == 4
    assert agent.config.adam_eps == 0.01 / 32
    assert agent.config.target_period == 2000
    assert torch.isfinite(train_steps(agent, frames, 1)["loss/total"]).all()


def test_a_reset_draws_from_the_initialisation_of_the_agent(frames):
    resets = {"every": 1, "kind": "shrink_and_perturb", "shrink": 0.0, "noise": 1.0}
    agent = DQN(frames.spec, preset="atari/dqn", batch_size=4, hidden=(8,), resets=resets)
    rlop.train(agent, frames, 1, progress=False)
    hidden = agent.online.torso.hidden
    bound = (3**0.5 / hidden.weight[0][0].numel()) ** 0.5
    assert 0.9 * bound < hidden.weight.abs().max() <= bound
    assert (hidden.bias == 0).all()


def test_published_sizes():
    assert {name: make_head(name).n for name in HEADS} == {
        "scalar": 1,
        "ensemble": 200,
        "rem": 200,
        "quantile": 200,
        "categorical": 51,
        "hl_gauss": 51,
    }
