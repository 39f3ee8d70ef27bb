"""Noise on targets and labels: the transforms, what they do to descent, and agents' options."""

import math

import numpy as np
import pytest
import torch
from helpers.training import parameters_of, train_steps
from rlop.agents import BC, CQL, DQN, DiscreteCQL
from scipy.linalg import solve_discrete_lyapunov

from rlop.data.sampler import Streams, Table
from rlop.losses.noise import flip_labels, label_noise
from rlop.optim import SGD
from rlop.types import InputError

SMALL = {"hidden": (8, 8), "batch_size": 8}


# --- the transforms ---


def test_noise_is_in_units_of_the_targets_spread():
    target = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 4.0]])
    noise = torch.tensor([[1.0, -1.0], [1.0, 1.0], [0.5, 0.0]])

    noisy = label_noise(target, noise, torch.tensor([0.1, 5.0, 0.0]))
    torch.testing.assert_close(noisy, torch.tensor([[1.1, 2.9], [2.0, 2.0], [0.0, 4.0]]))


def test_one_number_has_no_spread():
    target, noise = torch.tensor([[1.0], [2.0]]), torch.ones(2, 1)
    assert torch.equal(label_noise(target, noise, torch.ones(2)), target)


def test_flipped_labels_are_others_and_as_often_as_asked():
    n = 200_000
    uniform = torch.rand(4, n, generator=torch.Generator().manual_seed(0))
    label = torch.arange(n).remainder(5).expand(4, n)
    p = torch.tensor([0.0, 0.1, 0.4, 1.0])

    flipped = flip_labels(label, uniform, p, 5)
    assert torch.equal(flipped[0], label[0])
    torch.testing.assert_close((flipped != label).float().mean(1), p, atol=0.005, rtol=0)

    # The four other labels are equally likely.
    for run in (1, 2, 3):
        shift = (flipped[run] - label[run]).remainder(5)
        shares = torch.bincount(shift, minlength=5)[1:] / (shift != 0).sum()
        torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.01, rtol=0)


def test_the_smallest_and_the_largest_uniform_number_give_the_first_and_the_last_other_label():
    uniform = torch.tensor([[0.0, 1 - 2**-24]])
    label = torch.zeros(1, 2, dtype=torch.long)
    assert flip_labels(label, uniform, torch.ones(1), 3).tolist() == [[1, 2]]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="label_noise"):
        label_noise(torch.zeros(3, 2), torch.zeros(3, 1), torch.ones(3))
    with pytest.raises(ValueError, match="flip_labels"):
        flip_labels(torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 1), torch.ones(3), 5)


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

    covariance = solve_discrete_lyapunov(step, 0.1**2 * h * push @ push.T)
    theory = 0.1**2 / (1 - beta) / (2 - h / (1 + beta))
    assert covariance[0, 0] == pytest.approx(theory, rel=1e-9)
    assert covariance[0, 0] == pytest.approx(expected, rel=2e-4)


def test_label_noise_and_our_sgd_reach_that_variance():
    """Linear regression y = sqrt(h) w on targets -1 and 1; 5,000 chains each."""
    chains = 5_000
    columns = [torch.tensor(column) for column in zip(*TABLE, strict=True)]
    beta, h, _ = [column.repeat_interleave(chains) for column in columns]
    runs = len(h)

    w = torch.zeros(runs, 1)
    optimizer = SGD([w], 1.0, momentum=beta)
    target = torch.tensor([[-1.0, 1.0]]).expand(runs, 2)
    scale = torch.full((runs,), 0.1 * math.sqrt(2))
    x = h.sqrt().unsqueeze(1)

    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        y = label_noise(target, torch.randn(runs, 2, generator=generator), scale)
        gradient = (x * (x * w - y)).mean(1, keepdim=True)
        optimizer.apply([gradient])

    variance = w.view(len(TABLE), chains).square().mean(1)
    # 10 % are 5 standard errors.
    torch.testing.assert_close(variance, columns[2], rtol=0.1, atol=0)


# --- the agents' options ---


@pytest.mark.parametrize("make", [BC, DiscreteCQL])
def test_agents_count_the_datas_actions_and_zero_exponents_change_nothing(tiny, make):
    tiny.action[:] = np.repeat([0, 1, 2], [140, 50, 10])
    adjustment = {"gamma": [0.0, 0.3], "tau": 0.0}
    adjusted = make(tiny.spec, logit_adjustment=adjustment, lr=3e-3, **SMALL)
    plain = make(tiny.spec, lr=3e-3, **SMALL)
    train_steps(adjusted, tiny, 30)
    train_steps(plain, tiny, 30)

    assert adjusted.counts.tolist() == [140, 50, 10]
    expected = parameters_of(plain)
    for name, parameter in parameters_of(adjusted).items():
        torch.testing.assert_close(parameter[0], expected[name][0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(parameter[0], parameter[1], atol=1e-4)


def test_cloning_with_tau_1_raises_the_rare_action(tiny):
    """Softmax of the logits alone is the policy with the actions' frequencies divided out."""
    tiny.action[:] = np.repeat([0, 1, 2], [140, 50, 10])
    options = {"lr": 1e-2, "batch_size": 64, "hidden": (8,)}
    agent = BC(tiny.spec, logit_adjustment={"gamma": 0.0, "tau": [0.0, 1.0]}, **options)
    train_steps(agent, tiny, 200)

    logits = agent.actor(torch.zeros(2, 1, 4))[1][:, 0]
    plain, raised = logits.log_softmax(-1)
    assert plain.argmax() == 0
    assert raised[2] > plain[2] + 1


def noisy_agents(tiny, moves):
    """Agent, data, name of the option, and the option with noise in the second run only."""
    noise = {"scale": [0.0, 0.5]}
    sign = {**noise, "kind": "sign"}
    small_policy = {"policy_hidden": (8, 8), "action_samples": 3}
    return {
        "dqn": (DQN, tiny, "target_noise", noise, {}),
        "dqn_mc": (DQN, tiny, "target_noise", sign, {"backup": "mc", "gamma": 0.5}),
        "cql": (CQL, moves, "target_noise", noise, small_policy),
        "bc": (BC, tiny, "label_noise", {"probability": [0.0, 0.5]}, {}),
    }


@pytest.mark.parametrize("case", ["dqn", "dqn_mc", "cql", "bc"])
def test_noise_of_one_run_leaves_the_other_as_without_and_ends_when_asked(tiny, moves, case):
    make, data, name, noise, options = noisy_agents(tiny, moves)[case]
    noisy = make(data.spec, **{name: noise}, **options, **SMALL)
    never = make(data.spec, **{name: {**noise, "off_after": 0}}, **options, **SMALL)
    assert noisy.runs.labels[1].endswith("=0.5,seed=0")

    train_steps(noisy, data, 20)
    train_steps(never, data, 20)
    without = never.main.parameters
    for key, parameter in noisy.main.parameters.items():
        torch.testing.assert_close(parameter[0], without[key][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(without[key][1], without[key][0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(parameter[1], parameter[0], atol=1e-5)


def test_the_target_has_the_asked_for_spread_until_the_step_asked_for(tiny):
    noise = {"scale": 2.0, "kind": "sign", "off_after": 3}
    options = {"hidden": (8,), "batch_size": 64, "lr": 1e-9, "gamma": 0.5, "seeds": [1]}
    agent = DQN(tiny.spec, target_noise=noise, backup="mc", **options)
    table = Table(agent.prepare(tiny).columns())
    streams = Streams(agent.runs.seeds, 64, len(table), agent.noise)

    for step in range(5):
        index, drawn = streams.next()
        batch = table.gather(index)
        returns = batch.extra["mc_return"]
        target = agent.td_target(batch, drawn, None, None)[0].squeeze(-1)

        spread = 2.0 * returns.std(correction=0) if step < 3 else torch.zeros(())
        shift = (target - returns).abs()
        torch.testing.assert_close(shift, spread.expand_as(shift), rtol=1e-4, atol=1e-5)
        agent.update(batch, drawn)


def test_half_of_all_labels_flipped_is_learned_as_such(tiny):
    tiny.action[:] = 1
    options = {"hidden": (8,), "batch_size": 64, "lr": 1e-2}
    agent = BC(tiny.spec, label_noise={"probability": [0.0, 0.5]}, **options)
    train_steps(agent, tiny, 300)

    obs = torch.from_numpy(tiny.obs).expand(2, -1, -1)
    policy = agent.actor(obs)[1].softmax(-1).mean(1)
    torch.testing.assert_close(policy[1], torch.tensor([0.25, 0.5, 0.25]), atol=0.08, rtol=0)
    assert policy[0, 1] > 0.95


IMPOSSIBLE_LABEL_NOISE = {
    "label_noise": {"probability": 0.1},
    "variants": {"x": {"label_noise.probability": 2}},
}


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
        (DQN, {"variants": {"x": {"target_noise.scale": 1}}}, "unknown hyper-parameter"),
        (BC, {"label_noise": {"probability": 1.5}}, r"label_noise\.probability = 1\.5"),
        (BC, IMPOSSIBLE_LABEL_NOISE, r"label_noise\.probability\[0\] = 2"),
    ],
)
def test_bad_options_are_one_line_that_names_them(tiny, make, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make(tiny.spec, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"label_noise": {"probability": 0.1}}, {"logit_adjustment": {}}]
)
def test_options_of_the_cross_entropy_are_refused_for_other_losses(moves, options):
    (name,) = options
    with pytest.raises(InputError, match=f"{name}: expected loss = cross_entropy, found mse"):
        BC(moves.spec, **options)
