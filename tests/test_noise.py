"""Noise on targets and labels, what it does to gradient descent, the trace it penalizes."""

import itertools
import math

import numpy as np
import pytest
import torch
from rlop.agents import BC, CQL, DQN, DiscreteCQL
from scipy.linalg import solve_discrete_lyapunov

from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table
from rlop.losses import imbalance, td
from rlop.losses.noise import flip_labels, label_noise
from rlop.nets import MLP, QNetwork, reset_runs
from rlop.optim import SGD
from rlop.probes.trace import gauss_newton_trace, head_trace, noise_trace
from rlop.types import InputError

SMALL = {"hidden": (8, 8), "batch_size": 8}


def updates(agent, data, steps, record=None):
    table = Table(agent.prepare(data).columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    for _ in range(steps):
        index, noise = streams.next()
        metrics = agent.update(table.gather(index), noise)
        if record is not None:
            record.append(metrics)
        agent.update_target()
    return metrics


# --- the transforms ---


def test_noise_is_in_units_of_the_targets_spread():
    target = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 4.0]])
    noise = torch.tensor([[1.0, -1.0], [1.0, 1.0], [0.5, 0.0]])
    found = label_noise(target, noise, torch.tensor([0.1, 5.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([[1.1, 2.9], [2.0, 2.0], [0.0, 4.0]]))
    assert torch.equal(
        label_noise(target[:, :1], noise[:, :1], torch.ones(3)), target[:, :1]
    )  # one number has no spread
    with pytest.raises(ValueError, match="label_noise"):
        label_noise(target, noise[:, :1], torch.ones(3))


def test_flipped_labels_are_others_and_as_often_as_wished():
    n = 200_000
    uniform = torch.rand(4, n, generator=torch.Generator().manual_seed(0))
    label = torch.arange(n).remainder(5).expand(4, n)
    p = torch.tensor([0.0, 0.1, 0.4, 1.0])
    found = flip_labels(label, uniform, p, 5)
    assert torch.equal(found[0], label[0])
    torch.testing.assert_close((found != label).float().mean(1), p, atol=0.005, rtol=0)
    for run in (1, 2, 3):  # the four others are equally likely
        shift = (found[run] - label[run]).remainder(5)
        share = torch.bincount(shift, minlength=5)[1:] / (shift != 0).sum()
        torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.01, rtol=0)
    edge = flip_labels(
        torch.zeros(1, 2, dtype=torch.long), torch.tensor([[0.0, 1 - 2**-24]]), torch.ones(1), 3
    )
    assert edge.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="flip_labels"):
        flip_labels(label, uniform[:, 1:], p, 5)


# --- what noise does: the stationary variance of SGD on a quadratic ---

# Momentum, curvature, variance (Damian, Ma and Lee's theory: lambda / (2 - h/(1 + beta)),
# sigma .1, lr 1).
TABLE = [
    (0.0, 0.5, 0.006667),
    (0.0, 1.0, 0.010000),
    (0.0, 1.8, 0.050000),
    (0.9, 0.5, 0.057576),
    (0.9, 1.0, 0.067857),
    (0.9, 3.0, 0.237500),
]


@pytest.mark.parametrize(("beta", "h", "expected"), TABLE)
def test_the_formula_solves_the_recursion_of_the_covariance(beta, h, expected):
    """(w, v) <- A (w, v) - (1, -1) xi in closed form: its covariance solves a Lyapunov equation."""
    step = np.array([[1 - h, -beta], [h, beta]])  # w <- w - v', v' = beta v + h w + xi
    push = np.array([[-1.0], [1.0]])
    stationary = solve_discrete_lyapunov(step, 0.1**2 * h * push @ push.T)[0, 0]
    assert stationary == pytest.approx(0.1**2 / (1 - beta) / (2 - h / (1 + beta)), rel=1e-9)
    assert stationary == pytest.approx(expected, rel=2e-4)


def test_label_noise_and_our_sgd_reach_that_variance():
    """Linear regression y = sqrt(h) w on targets -1 and 1; 5,000 chains each."""
    chains = 5_000
    beta, h, expected = (
        torch.tensor(column).repeat_interleave(chains) for column in zip(*TABLE, strict=True)
    )
    w = torch.zeros(len(h), 1)
    optimizer = SGD([w], 1.0, momentum=beta)
    target, generator = (
        torch.tensor([[-1.0, 1.0]]).expand(len(h), 2),
        torch.Generator().manual_seed(0),
    )
    x = h.sqrt().unsqueeze(1)
    for _ in range(150):
        y = label_noise(
            target,
            torch.randn(len(h), 2, generator=generator),
            torch.full_like(h, 0.1 * math.sqrt(2)),
        )
        optimizer.apply([(x * (x * w - y)).mean(1, keepdim=True)])
    found = w.view(len(TABLE), chains).square().mean(1)
    torch.testing.assert_close(
        found, expected.view(len(TABLE), chains)[:, 0], rtol=0.1, atol=0
    )  # 5 standard errors


# --- the trace ---


def plain_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
    ).double()


@pytest.mark.parametrize("chunk", [None, 3])
def test_trace_of_any_module_equals_that_of_its_jacobian(chunk):
    net, x = plain_net(), torch.randn(7, 3, dtype=torch.float64)
    params = dict(net.named_parameters())

    def fn(p, x):
        return torch.func.functional_call(net, p, (x,))

    total = 0.0
    for row in x:
        for k in range(2):
            total += sum(
                g.square().sum()
                for g in torch.autograd.grad(net(row[None])[0, k], list(net.parameters()))
            )
    torch.testing.assert_close(gauss_newton_trace(fn, params, x, chunk=chunk), (total / 7).detach())
    head = {name: p for name, p in params.items() if name.startswith("2.")}
    last = gauss_newton_trace(lambda p, x: fn({**params, **p}, x), head, x)
    torch.testing.assert_close(
        last, 2 * head_trace(net[:2](x))
    )  # each of the two outputs has its own row


def test_trace_of_stacked_networks_is_that_of_each_run():
    net = QNetwork(MLP((3,), 4, (6, 5), "relu"), 2, 3)
    reset_runs(net, [0, 1, 2])
    net.double()
    x = torch.randn(3, 6, 4).double()
    action = torch.randint(2, (3, 6))
    params = dict(net.named_parameters())

    def fn(p, x, action):
        obs = torch.func.functional_call(
            net.torso, {k[6:]: v for k, v in p.items() if k.startswith("torso.")}, (x,)
        )
        q = torch.baddbmm(p["head.bias"].unsqueeze(1), obs, p["head.weight"].mT)
        return td.select(q, action)

    found = gauss_newton_trace(fn, params, x, action, lead=1)
    for run in range(3):
        total = 0.0
        for i in range(6):
            value = fn(params, x[:, i : i + 1], action[:, i : i + 1])[run, 0]
            total += sum(
                g.square().sum() for g in torch.autograd.grad(value, list(params.values()))
            )
        torch.testing.assert_close(found[run], (total / 6).detach())
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6))).double()
    torch.testing.assert_close(
        noise_trace(fn, params, x, action, signs=signs, lead=1), found
    )  # the mean over all signs


def test_trace_estimate_from_noise_is_unbiased():
    net, x = plain_net(), torch.randn(3, 3, dtype=torch.float64)
    params = dict(net.named_parameters())

    def fn(p, x):
        return torch.func.functional_call(net, p, (x,))

    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6))).double().view(-1, 3, 2)
    torch.testing.assert_close(
        noise_trace(fn, params, x, signs=signs), gauss_newton_trace(fn, params, x)
    )
    assert noise_trace(fn, params, x, signs=signs[:1]).item() > 0
    with pytest.raises(ValueError, match="signs"):
        noise_trace(fn, params, x, signs=signs[:, :2])
    with pytest.raises(ValueError, match="outputs"):
        gauss_newton_trace(lambda p, x: fn(p, x)[..., None, None], params, x)
    with pytest.raises(ValueError, match="leading axes"):
        gauss_newton_trace(fn, params, x, lead=1)
    with pytest.raises(ValueError, match="features"):
        head_trace(torch.zeros(3))


# --- adjusted logits ---


def test_vs_logits_give_the_vs_loss():
    logits = torch.randn(2, 4, 3, dtype=torch.float64)
    label = torch.randint(3, (2, 4))
    counts, gamma, tau = (
        torch.tensor([10.0, 60.0, 30.0]),
        torch.tensor([0.3, 0.0]),
        torch.tensor([1.0, 0.5]),
    )
    adjusted = imbalance.vs_logits(logits, counts, gamma, tau)
    found = td.conservative_gap(adjusted, td.select(adjusted, label), torch.ones(2))
    n = counts.double().numpy()
    for run, row in itertools.product(range(2), range(4)):
        f, y = logits[run, row].numpy(), label[run, row].item()
        z = (n / 60) ** gamma[run].item() * f + tau[run].item() * np.log(n / 100)
        assert found[run, row].item() == pytest.approx(
            -np.log(np.exp(z[y]) / np.exp(z).sum()), rel=1e-6
        )
    assert torch.equal(imbalance.vs_logits(logits, counts, torch.zeros(2), torch.zeros(2)), logits)


def test_an_action_never_taken_counts_as_taken_once():
    logits, numbers = (
        torch.randn(1, 5, 3, requires_grad=True),
        (torch.tensor([0.3]), torch.tensor([0.0])),
    )
    zero, one = (
        imbalance.vs_logits(logits, torch.tensor([7.0, n, 9.0]), *numbers) for n in (0.0, 1.0)
    )
    assert torch.equal(zero, one)
    td.conservative_gap(zero, zero[..., 0], torch.ones(1)).sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[..., 1] > 0).all()  # it is still pushed down
    with pytest.raises(ValueError, match="counts"):
        imbalance.vs_logits(logits, torch.ones(4), *numbers)


@pytest.mark.parametrize("make", [BC, DiscreteCQL])
def test_agents_count_the_datas_actions_and_zero_exponents_change_nothing(tiny, make):
    tiny.action[:] = np.repeat([0, 1, 2], [140, 50, 10])
    options = {"logit_adjustment": {"gamma": [0.0, 0.3], "tau": 0.0}, "lr": 3e-3, **SMALL}
    agent, plain = make(tiny.spec, **options), make(tiny.spec, lr=3e-3, **SMALL)
    updates(agent, tiny, 30)
    updates(plain, tiny, 30)
    assert agent.counts.tolist() == [140, 50, 10]
    for a, b in zip(agent.main.online.parameters(), plain.main.online.parameters(), strict=True):
        torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(a[0], a[1], atol=1e-4)


def test_cloning_with_tau_1_raises_the_rare_action(tiny):
    """Softmax of the logits alone is the policy with the actions' frequencies divided out."""
    tiny.action[:] = np.repeat([0, 1, 2], [140, 50, 10])
    agent = BC(
        tiny.spec,
        lr=1e-2,
        batch_size=64,
        hidden=(8,),
        logit_adjustment={"gamma": 0.0, "tau": [0.0, 1.0]},
    )
    updates(agent, tiny, 200)
    logits = agent.policy(torch.zeros(2, 1, 4))[1][:, 0]
    assert (
        logits.argmax(-1)[0],
        logits.log_softmax(-1)[1, 2] > logits.log_softmax(-1)[0, 2] + 1,
    ) == (0, True)


# --- the agents' options ---


def moves():
    rng = np.random.default_rng(0)
    ends = np.arange(100) % 10 == 9
    obs, action = (
        rng.normal(size=(100, 3)).astype(np.float32),
        rng.uniform(-1, 1, size=(100, 2)).astype(np.float32),
    )
    return Dataset.from_arrays(
        obs, action, rng.normal(size=100), ends, ~ends & False, np.roll(obs, -1, 0)
    )


def cases(tiny):
    cql = {"policy_hidden": (8, 8), "action_samples": 3, **SMALL}
    return [
        (DQN, tiny, {"target_noise": {"scale": [0.0, 0.5]}, **SMALL}),
        (
            DQN,
            tiny,
            {
                "target_noise": {"scale": [0.0, 0.5], "kind": "sign"},
                "backup": "mc",
                "gamma": 0.5,
                **SMALL,
            },
        ),
        (CQL, moves(), {"target_noise": {"scale": [0.0, 0.5]}, **cql}),
        (BC, tiny, {"label_noise": {"probability": [0.0, 0.5]}, **SMALL}),
    ]


@pytest.mark.parametrize("case", range(4))
def test_noise_of_one_run_leaves_the_other_as_without_and_ends_when_asked(tiny, case):
    make, data, options = cases(tiny)[case]
    name = "label_noise" if make is BC else "target_noise"
    agent, seen = make(data.spec, **options), []
    updates(agent, data, 20, seen)
    key = "loss/bc" if make is BC else "q/target"
    assert agent.runs.labels[1].endswith("=0.5,seed=0")
    assert any((m[key][0] - m[key][1]).abs() > 1e-3 for m in seen)
    off = make(
        data.spec, **{**options, name: {**options[name], "off_after": 0}}
    )  # the same numbers, never used
    updates(off, data, 20)
    learner = (
        (agent.learners["critics"], off.learners["critics"])
        if make is CQL
        else (agent.main, off.main)
    )
    for a, b in zip(*(each.online.parameters() for each in learner), strict=True):
        torch.testing.assert_close(a[0], b[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(b[1], b[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(a[1], a[0], atol=1e-5)


def test_the_target_has_the_asked_for_spread_until_the_step_asked_for(tiny):
    options = {
        "target_noise": {"scale": 2.0, "kind": "sign", "off_after": 3},
        "lr": 1e-9,
        "seeds": [1],
        "gamma": 0.5,
    }
    agent = DQN(tiny.spec, **options, hidden=(8,), batch_size=64, backup="mc")
    table = Table(agent.prepare(tiny).columns())
    streams = Streams(agent.runs.seeds, 64, len(table), agent.noise)
    for step in range(5):
        index, noise = streams.next()
        batch = table.gather(index)
        moved = agent.td_target(batch, noise, None, None)[0].squeeze(-1) - batch.extra["mc_return"]
        spread = batch.extra["mc_return"].std(correction=0)
        expected = torch.full_like(moved, 2.0) * spread if step < 3 else torch.zeros_like(moved)
        torch.testing.assert_close(moved.abs(), expected, rtol=1e-4, atol=1e-5)
        agent.update(batch, noise)


def test_half_of_all_labels_flipped_is_learned_as_such(tiny):
    tiny.action[:] = 1
    agent = BC(
        tiny.spec, hidden=(8,), batch_size=64, lr=1e-2, label_noise={"probability": [0.0, 0.5]}
    )
    updates(agent, tiny, 300)
    policy = agent.policy(torch.from_numpy(tiny.obs).expand(2, -1, -1))[1].softmax(-1).mean(1)
    torch.testing.assert_close(policy[1], torch.tensor([0.25, 0.5, 0.25]), atol=0.08, rtol=0)
    assert policy[0, 1] > 0.95


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (DQN, {"target_noise": {"scale": -1}}, r"target_noise\.scale = -1"),
        (DQN, {"target_noise": {}}, r"target_noise\.scale: missing"),
        (DQN, {"target_noise": {"scale": 1, "kind": "cauchy"}}, "'gaussian'"),
        (DQN, {"target_noise": {"scale": 1, "off_after": -1}}, "off_after"),
        (DQN, {"target_noise": 0.1}, r"target_noise = 0\.1: expected a mapping"),
        (DQN, {"logit_adjustment": {}}, "expected alpha > 0"),
        (DQN, {"alpha": 1.0, "logit_adjustment": {"tau": -1}}, r"logit_adjustment\.tau = -1"),
        (DQN, {"label_noise": {"probability": 0.1}}, "unknown key 'label_noise'"),
        (BC, {"label_noise": {"probability": 1.5}}, r"label_noise\.probability = 1\.5"),
        (
            BC,
            {
                "label_noise": {"probability": 0.1},
                "variants": {"x": {"label_noise.probability": 2}},
            },
            r"label_noise\.probability\[0\] = 2",
        ),
        (DQN, {"variants": {"x": {"target_noise.scale": 1}}}, "unknown hyper-parameter"),
    ],
)
def test_bad_options_are_one_line_that_names_them(tiny, make, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make(tiny.spec, **options)
    assert "\n" not in str(caught.value)


def test_options_of_the_cross_entropy_are_refused_for_other_losses():
    for name, option in (("label_noise", {"probability": 0.1}), ("logit_adjustment", {})):
        with pytest.raises(InputError, match=f"{name}: expected loss = cross_entropy, found mse"):
            BC(moves().spec, **{name: option})
