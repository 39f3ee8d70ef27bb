"""Continuous CQL: its losses against NumPy and d3rlpy, the run axis, the compiled graph, divergence, learning."""

import copy
import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from helpers.training import train_steps
from rlop.agents import CQL
from rlop.agents.cql_config import PRESETS

import rlop
from rlop.collect.collector import collect
from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table, probe_batch
from rlop.losses import tanh_gaussian, td
from rlop.nets import Critics, reinit_runs, reset_runs
from rlop.training.evaluate import Evaluator
from rlop.training.loop import Loop, TrainOptions, compiled
from rlop.types import InputError, Spec

OBS, ACT = 4, 2
SMALL = {
    "hidden": (16, 16),
    "policy_hidden": (16, 16),
    "batch_size": 8,
    "action_samples": 3,
    "backup_samples": 4,
}
SWEPT = {
    "plain": {},
    "bold": {"alpha": 0.5, "temperature": 0.5},
    "slow": {"lr": 1e-4, "policy_lr": 1e-3, "gamma": 0.9},
    "soft": {"tau": 0.1, "target_entropy": -0.5},
    "dr3": {"regularizers.dr3": 0.01},
    "ball": {"projections.max_norm": 0.5, "lr": 1e-3},
}


@pytest.fixture
def moves() -> Dataset:
    """200 random transitions with actions in [-1, 1], some on the bound; half of the episodes end by termination."""
    rng = np.random.default_rng(0)
    ends = np.arange(200) % 10 == 9
    terminated = ends & (np.arange(200) % 20 == 9)
    return Dataset.from_arrays(
        rng.normal(size=(200, OBS)).astype(np.float32),
        rng.uniform(-1.2, 1.2, size=(200, ACT)).clip(-1, 1).astype(np.float32),
        rng.normal(size=200).astype(np.float32),
        terminated,
        ends & ~terminated,
        rng.normal(size=(200, OBS)).astype(np.float32),
    )


def parameters(agent):
    return {
        f"{k}.{n}": p
        for k, learner in agent.learners.items()
        for n, p in learner.parameters.items()
    }


def one_batch(agent, data, dtype=torch.float32):
    """A batch and its noise, in the given precision."""
    table = Table(data.columns())
    streams = Streams(agent.runs.seeds, agent.batch_size, len(table), agent.noise)
    index, noise = streams.next()
    batch = table.gather(index)
    wide = {k: v.to(dtype) for k, v in batch._asdict().items() if k not in ("index", "extra")}
    return batch._replace(**wide), {k: v.to(dtype) for k, v in noise.items()}


# --- the formulas once more, in NumPy, for one run ---


def mlp(params, x, layers):
    for i in range(layers):
        x = np.maximum(
            x @ params[f"torso.layers.{i}.weight"].T + params[f"torso.layers.{i}.bias"], 0
        )
    return x, x @ params["head.weight"].T + params["head.bias"]


def log_pi(mean, log_std, raw):
    gauss = -0.5 * ((raw - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    return (gauss - np.log(1 - np.tanh(raw) ** 2)).sum(-1)


def lse(x, t):
    return t * np.log(np.exp(x / t).sum(-1))


class Twin:
    """Float64 losses of one run, written from the formulas and the weights alone."""

    def __init__(self, agent, run):
        def copy(module):
            return {k: v[run].detach().double().numpy() for k, v in module.named_parameters()}

        self.online, self.target, self.pi = (
            copy(agent.critics),
            copy(agent.target),
            copy(agent.policy),
        )
        self.c, self.e, self.depth = agent.config, agent.config.n_critics, len(agent.config.hidden)
        self.h = {k: v[run].double().item() for k, v in agent.hyper.items()}
        self.log_c = agent.learners["entropy"].parameters["log"][run].item()
        self.log_w = (
            agent.learners["multiplier"].parameters["log"][run].item()
            if agent.config.lagrange != "off"
            else 0
        )

    def q(self, params, s, a):
        """[E, ...]"""
        x = np.concatenate([np.broadcast_to(s, (*a.shape[:-1], s.shape[-1])), a], -1)
        return np.stack(
            [mlp(self.critic(params, e), x, self.depth)[1][..., 0] for e in range(self.e)]
        )

    def phi(self, s, a):
        x = np.concatenate([s, a], -1)
        return [mlp(self.critic(self.online, e), x, self.depth)[0] for e in range(self.e)]

    @staticmethod
    def critic(params, e):
        return {k: v[e] for k, v in params.items()}

    def moments(self, s):
        mean, log_std = np.split(mlp(self.pi, s, self.depth)[1], 2, -1)
        if "affine" in self.pi:
            log_std = self.pi["affine"][0] * log_std + self.pi["affine"][1]
        return mean, log_std.clip(*self.c.log_std_range)

    def __call__(self, batch, noise, steps=0):
        c, h = self.c, self.h
        s, a, r, s2, d, disc = batch[:6]
        (mean, log_std), (mean2, log_std2) = self.moments(s), self.moments(s2)
        coef = np.exp(self.log_c)
        # target
        raw = mean2[:, None] + np.exp(log_std2)[:, None] * noise.get(
            "backup", np.zeros((len(s), 1, ACT))
        )
        values = self.q(self.target, s2[:, None], np.tanh(raw))  # [E, B, K]
        best = np.empty(len(s), int)
        value = np.empty(len(s))
        for b in range(len(s)):  # the literal definition, state by state
            if c.backup == "max_then_min":
                lowest = values[:, b].max(1).argmin()
                best[b], value[b] = values[lowest, b].argmax(), values[:, b].max(1).min()
            else:
                best[b], value[b] = values[:, b].min(0).argmax(), values[:, b].min(0).max()
        raw = raw[np.arange(len(s)), best]
        if c.backup_entropy:
            value = value - coef * log_pi(mean2, log_std2, raw)
        y = r + h["gamma"] * disc * (1 - d) * value
        # critics
        q = self.q(self.online, s, a)
        td_loss = ((q - y) ** 2).mean(1).sum()
        here = mean[:, None] + np.exp(log_std)[:, None] * noise["here"]
        there = mean2[:, None] + np.exp(log_std2)[:, None] * noise["there"]
        q_rand, q_here, q_there = (
            self.q(self.online, s[:, None], x)
            for x in (2 * noise["random"] - 1, np.tanh(here), np.tanh(there))
        )
        if c.conservative == "H":
            cat = np.concatenate(
                [
                    q_rand - np.log(0.5**ACT),
                    q_there - log_pi(mean2[:, None], log_std2[:, None], there),
                    q_here - log_pi(mean[:, None], log_std[:, None], here),
                ],
                -1,
            )
        else:
            cat = np.concatenate([q_rand, q[..., None], q_there, q_here], -1)
        per_state = lse(cat, h["temperature"]) - q
        low, high = c.clip_diff_min, c.clip_diff_max
        diff = per_state.clip(
            -np.inf if low is None else low, np.inf if high is None else high
        ).mean(1)  # [E]
        weight = min(np.exp(self.log_w), 1e6)
        penalty = {
            "off": h["alpha"] * diff,
            "official": weight * (h["alpha"] * diff - h["gap"]),
            "corl": weight * h["alpha"] * (diff - h["gap"]),
            "d3rlpy": weight * h["alpha"] * (diff - h["gap"]),
        }[c.lagrange]
        dots = [
            (p * p2).sum(-1) * (1 - d) for p, p2 in zip(self.phi(s, a), self.phi(s2, np.tanh(raw)))
        ]
        dr3 = sum(dot.mean() for dot in dots)
        # policy and entropy
        raw = mean + np.exp(log_std) * noise["policy"]
        lp = log_pi(mean, log_std, raw)
        objective = self.q(self.online, s, np.tanh(raw)).min(0)
        if steps < c.bc_steps:
            objective = log_pi(mean, log_std, np.arctanh(a.clip(-1 + 1e-6, 1 - 1e-6)))
        error = (lp + h["target_entropy"] * ACT).mean()
        losses = {
            "td": td_loss,
            "conservative": diff.sum(),
            "critics": td_loss + penalty.sum(),
            "policy": (coef * lp - objective).mean(),
            "entropy": -(self.log_c if c.entropy_loss == "log" else coef) * error,
            "multiplier": -penalty.mean(),
        }
        return losses, dr3


CASES = {
    "defaults": {},
    "rho": {"conservative": "rho", "temperature": 0.5},
    "mean": {"backup": "mean", "entropy_loss": "exp", "entropy_coef": 0.2},
    "max_then_min": {"backup": "max_then_min", "backup_entropy": True},
    "min_then_max": {"backup": "min_then_max", "backup_entropy": True, "n_critics": 3},
    "clipped": {"clip_diff_min": 1.0, "clip_diff_max": 1.5, "temperature": 2.0},
    "one_critic": {"n_critics": 1, "hidden": (16,), "policy_hidden": (16,)},
    "cloning": {"bc_steps": 100, "log_std_affine": (0.5, -1.0), "log_std_range": (-1.2, -0.9)},
    "official": {"lagrange": "official", "gap": 3.0, "init": "small_head"},
    "corl": {"lagrange": "corl", "gap": 0.8, "init": "orthogonal"},
    "d3rlpy": {"preset": "cql/d3rlpy"},
}


@pytest.mark.parametrize("case", CASES)
def test_all_losses_equal_a_float64_numpy_twin(moves, case):
    options = {
        **SMALL,
        "alpha": [0.7, 5.0],
        "lr": 1e-2,
        "policy_lr": 1e-2,
        "entropy_lr": 0.1,
        "alpha_lr": 0.1,
    }
    agent = CQL(moves.spec, seeds=[3], regularizers={"dr3": 0.25}, **{**options, **CASES[case]})
    train_steps(
        agent, moves, 5
    )  # so that target and online networks, and weights and their starts, differ
    for learner in agent.learners.values():
        learner.online.double()
    agent.target.double()
    batch, noise = one_batch(agent, moves, torch.float64)
    losses, metrics = agent.losses(batch, noise)
    for run in range(2):
        arrays = [x[run].numpy() for x in batch[:6]]
        expected, dr3 = Twin(agent, run)(
            arrays, {k: v[run].numpy() for k, v in noise.items()}, steps=5
        )
        found = {name: loss[run] for name, loss in losses.items()}
        found["critics"] = found["critics"] - 0.25 * dr3
        found |= {"td": metrics["loss/td"][run], "conservative": metrics["loss/conservative"][run]}
        for name, value in found.items():
            assert value.dtype == torch.float64, name
            assert value.item() == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name
        assert metrics["reg/dr3"][run].item() == pytest.approx(dr3, rel=1e-9)
    assert ("multiplier" in losses) == (agent.config.lagrange != "off")


def test_clips_hold_and_bind(moves):
    """The sum over two critics of a mean of numbers in [1, 1.5]."""
    clipped = train_steps(CQL(moves.spec, **{**SMALL, **CASES["clipped"]}), moves, 1)[
        "loss/conservative"
    ]
    free = train_steps(CQL(moves.spec, **{**SMALL, "temperature": 2.0}), moves, 1)["loss/conservative"]
    assert 2 <= clipped.item() <= 3
    assert not torch.isclose(clipped, free, atol=1e-2)


def test_order_of_maximum_and_minimum_by_hand():
    q = torch.tensor(
        [[[[1.0, 4.0, 2.0]], [[5.0, 0.0, 3.0]]]]
    )  # two critics, one state, three actions
    value, action = td.pessimistic_max(q, min_first=True)
    assert (value.item(), action.item()) == (2.0, 2)
    value, action = td.pessimistic_max(q, min_first=False)
    assert (value.item(), action.item()) == (4.0, 1)


def test_lagrange_forms_by_hand():
    """Official threshold 5 at alpha 5 is a threshold of 1 elsewhere; the weight grows while the gap is above it."""
    gap, log_weight = torch.tensor([[2.0, 4.0]]), torch.zeros(1, requires_grad=True)
    alpha, one, five = (torch.tensor([x]) for x in (5.0, 1.0, 5.0))
    official = td.lagrange_penalty(gap, log_weight, alpha, five, "official")
    for form in ("corl", "d3rlpy"):
        torch.testing.assert_close(td.lagrange_penalty(gap, log_weight, alpha, one, form), official)
    assert official.tolist() == [[5.0, 15.0]]
    assert torch.autograd.grad(-official.mean(), log_weight)[0].item() == pytest.approx(-10.0)
    huge = td.lagrange_penalty(gap, torch.tensor([99.0]), alpha, one, "corl")
    assert huge.tolist() == [[5e6, 15e6]]


def test_the_gap_holds_the_logarithm_of_the_number_of_candidates():
    """Equal values and a density of 1: what remains is log 3N, since the sum is not divided by it."""
    q = torch.full((1, 2, 5, 30), 0.7)
    gap = td.conservative_gap(
        td.importance_values(q, torch.zeros(1, 5, 30)), q[..., 0], torch.ones(1)
    )
    torch.testing.assert_close(gap, torch.full((1, 2, 5), math.log(30)))


# --- against d3rlpy ---


@pytest.fixture
def d3rlpy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages it imports
        return pytest.importorskip("d3rlpy")


def d3rlpy_cql(d3rlpy, agent, options):
    """d3rlpy's own CQL with the weights of the first run of an agent."""
    c = agent.config
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(list(c.hidden))
    config = d3rlpy.algos.CQLConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        n_action_samples=c.action_samples,
        conservative_weight=c.alpha,
        alpha_threshold=c.gap,
        gamma=c.gamma,
        alpha_learning_rate=1e-30,  # on, for its loss, and too small to move anything before the other losses
        temp_learning_rate=1e-30,
        **options,
    )
    algo = config.create(device=False)
    algo.create_impl((OBS,), ACT)
    modules = algo.impl.modules

    def fill(linear, weight, bias):
        linear.weight.data.copy_(weight)
        linear.bias.data.copy_(bias)

    def fill_encoder(encoder, torso, *index):
        linears = [m for m in encoder.modules() if isinstance(m, torch.nn.Linear)]
        for linear, layer in zip(linears, torso.layers, strict=True):
            fill(linear, layer.weight[index], layer.bias[index])

    for theirs, ours in ((modules.q_funcs, agent.critics), (modules.targ_q_funcs, agent.target)):
        for e, q_func in enumerate(theirs):
            fill_encoder(q_func.encoder, ours.torso, 0, e)
            fill(q_func._fc, ours.head.weight[0, e], ours.head.bias[0, e])
    fill_encoder(modules.policy._encoder, agent.policy.torso, 0)
    head = agent.policy.head
    fill(modules.policy._mu, head.weight[0, :ACT], head.bias[0, :ACT])
    fill(modules.policy._logstd, head.weight[0, ACT:], head.bias[0, ACT:])
    for parameter, name in ((modules.log_temp, "entropy"), (modules.log_alpha, "multiplier")):
        next(parameter.parameters()).data.fill_(agent.log_weight(name)[0].item())
    return algo.impl


def feed(d3rlpy, monkeypatch, normals, uniform):
    """Make d3rlpy draw these numbers, in this order."""
    from d3rlpy.models.torch import distributions

    class Normal(torch.distributions.Normal):
        def rsample(self, sample_shape=()):
            drawn = normals.pop(0)
            assert drawn.shape == (*sample_shape, *self.loc.shape)
            return self.loc + self.scale * drawn

    monkeypatch.setattr(distributions, "Normal", Normal)
    monkeypatch.setattr(
        torch.Tensor, "uniform_", lambda self, low, high: self.copy_(low + (high - low) * uniform)
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"backup": "min_then_max"}, {"max_q_backup": True}),
        ({"backup": "sample", "backup_entropy": True}, {"soft_q_backup": True}),
    ],
)
def test_losses_and_gradients_equal_those_of_d3rlpy(moves, d3rlpy, monkeypatch, ours, theirs):
    from d3rlpy.torch_utility import TorchMiniBatch

    options = {
        **SMALL,
        "backup_samples": SMALL["action_samples"],
        "preset": "cql/d3rlpy",
        "lr": 1e-2,
        "policy_lr": 1e-2,
    }
    agent = CQL(moves.spec, **{**options, "entropy_lr": 0.1, "alpha_lr": 0.1, **ours})
    train_steps(agent, moves, 10)
    batch, noise = one_batch(agent, moves)
    losses, _ = agent.losses(batch, noise)
    impl = d3rlpy_cql(d3rlpy, agent, theirs)
    column = torch.zeros(8, 1)
    mini = TorchMiniBatch(
        observations=batch.obs[0],
        actions=batch.action[0],
        rewards=batch.reward[0][:, None],
        next_observations=batch.next_obs[0],
        next_actions=torch.zeros(8, ACT),
        returns_to_go=column,
        terminals=batch.terminated[0][:, None],
        intervals=column + 1,
        device="cpu",
    )
    first = {k: v[0] for k, v in noise.items()}
    backup = [first["backup"].transpose(0, 1)] if "backup" in first else []
    normals = [
        *backup,
        first["here"].transpose(0, 1),
        first["there"].transpose(0, 1),
        first["policy"],
    ]
    if "soft_q_backup" in theirs:
        normals[0] = normals[0][0]
    feed(d3rlpy, monkeypatch, normals, first["random"].flatten(0, 1))

    modules = impl.modules
    critic = impl.compute_critic_loss(mini, impl.compute_target(mini))
    actor = impl.compute_actor_loss(mini, modules.policy(mini.observations))
    assert not normals

    def close(found, expected):
        torch.testing.assert_close(
            found.detach().squeeze(), expected.detach().squeeze(), rtol=1e-5, atol=1e-5
        )

    close(losses["critics"][0], critic.critic_loss)
    close(losses["multiplier"][0], -critic.conservative_loss / 2)
    close(losses["policy"][0], actor.actor_loss)
    close(losses["entropy"][0], actor.temp_loss)
    found = torch.autograd.grad(
        losses["critics"].sum(), agent.critics.torso.layers[0].weight, retain_graph=True
    )[0]
    for e, q_func in enumerate(modules.q_funcs):
        layer = next(m for m in q_func.encoder.modules() if isinstance(m, torch.nn.Linear))
        close(
            found[0, e], torch.autograd.grad(critic.critic_loss, layer.weight, retain_graph=True)[0]
        )
    found = torch.autograd.grad(losses["policy"].sum(), agent.policy.head.weight)[0][0]
    expected = torch.autograd.grad(
        actor.actor_loss, [modules.policy._mu.weight, modules.policy._logstd.weight]
    )
    close(found, torch.cat(expected))


# --- the squashed Gaussian ---


def test_density_integrates_to_one_and_agrees_with_itself():
    mean, log_std = torch.tensor([0.3]).double(), torch.tensor([-0.4]).double()
    grid = torch.linspace(-1, 1, 40_001, dtype=torch.float64)[1:-1].unsqueeze(-1)
    density = tanh_gaussian.log_prob(mean.expand_as(grid), log_std.expand_as(grid), grid).exp()
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=1e-4)
    action, log_density = tanh_gaussian.sample(
        mean, log_std, torch.tensor([[0.1], [-1.7], [2.2]]).double()
    )
    again = tanh_gaussian.log_prob(mean.expand_as(action), log_std.expand_as(action), action)
    torch.testing.assert_close(again, log_density)
    reference = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(reference.log_prob(action).sum(-1), log_density)


def test_density_is_finite_where_the_tanh_is_flat_and_on_the_bounds():
    mean, log_std = torch.full((1, 2), 30.0, requires_grad=True), torch.zeros(1, 2)
    action, log_density = tanh_gaussian.sample(mean, log_std, torch.zeros(1, 2))
    assert (action == 1).all()
    assert torch.isfinite(log_density)
    bound = tanh_gaussian.log_prob(torch.zeros(1, 2), log_std, torch.tensor([[1.0, -1.0]]))
    inside = tanh_gaussian.log_prob(
        torch.zeros(1, 2), log_std, torch.tensor([[1 - 1e-6, -1 + 1e-6]])
    )
    assert torch.isfinite(bound)
    assert torch.equal(bound, inside)


def test_actions_beyond_the_bounds_are_refused_with_their_range(moves):
    agent = CQL(moves.spec, **SMALL)
    moves.action[7, 1] = 2.0
    with pytest.raises(InputError, match=r"actions from -1 to 2, expected \[-1, 1\]"):
        agent.prepare(moves)


# --- runs, graph, divergence ---


@pytest.mark.parametrize(
    "options", [{}, {"lagrange": "corl", "gap": 0.5, "backup": "min_then_max"}]
)
def test_a_run_alone_equals_itself_among_others(moves, options):
    many = CQL(moves.spec, seeds=[5, 7], variants=SWEPT, **SMALL, **options)
    among = train_steps(many, moves, 30)
    for row in (1, 5, 7, 9, 11):
        name, seed = list(SWEPT)[row // 2], [5, 7][row % 2]
        everything = {
            "regularizers.dr3": 0.0,
            "projections.max_norm": math.inf,
        }  # the same terms must be present
        alone = CQL(
            moves.spec,
            seeds=[seed],
            variants={name: {**everything, **SWEPT[name]}},
            **SMALL,
            **options,
        )
        metrics = train_steps(alone, moves, 30)
        for key, p in parameters(many).items():
            torch.testing.assert_close(p[row], parameters(alone)[key][0], rtol=1e-5, atol=1e-5)
        for key in metrics:
            assert metrics[key].shape == (1,)
            assert metrics[key][0].item() == pytest.approx(
                among[key][row].item(), rel=1e-4, abs=1e-5
            ), key


def test_runs_that_differ_do_differ(moves):
    many = CQL(moves.spec, seeds=[5], variants=SWEPT, **SMALL)
    train_steps(many, moves, 30)
    weight = many.critics.head.weight
    assert all(
        not torch.allclose(weight[0], weight[row], atol=1e-6) for row in range(1, len(SWEPT))
    )
    twins = weight[0]
    assert not torch.allclose(twins[0], twins[1], atol=1e-3)  # critics of one run are drawn apart


def test_compiled_equals_eager_in_one_graph_without_recompilation(moves):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    options = {
        **SMALL,
        "lagrange": "official",
        "bc_steps": 10,
        "backup": "max_then_min",
        "max_grad_norm": 1.0,
    }
    eager, graph = (
        CQL(moves.spec, variants=SWEPT, backup_entropy=True, **options) for _ in range(2)
    )
    counter = CompileCounterWithBackend("aot_eager")
    update = compiled(graph.update, backend=counter)
    expected, found = train_steps(eager, moves, 20), train_steps(graph, moves, 20, update)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    for name, p in parameters(eager).items():
        torch.testing.assert_close(parameters(graph)[name], p, rtol=1e-4, atol=1e-5)
    graph.hyper["alpha"].fill_(0.7)  # a new coefficient is a new number, not a new graph
    train_steps(graph, moves, 5, update)
    assert counter.frame_count == 1
    assert graph.steps.item() == 25


def test_a_diverging_run_is_frozen_in_all_its_networks(moves):
    calm = {"lr": 3e-4}
    agent = CQL(moves.spec, seeds=1, variants={"mad": {"lr": 1e18}, "calm": calm}, **SMALL)
    alone = CQL(moves.spec, seeds=1, variants={"calm": calm}, **SMALL)
    for _ in range(5):
        train_steps(agent, moves, 5)
        train_steps(alone, moves, 5)
    assert agent.active.tolist() == [False, True]
    assert all(learner.active.tolist() == [False, True] for learner in agent.learners.values())
    frozen = {name: p[0].clone() for name, p in parameters(agent).items()}
    train_steps(agent, moves, 5)
    train_steps(alone, moves, 5)
    for name, p in parameters(agent).items():
        assert torch.isfinite(p).all(), name
        assert torch.equal(p[0], frozen[name]), (
            name
        )  # the policy too, though its own loss may be finite
        torch.testing.assert_close(p[1], parameters(alone)[name][0], rtol=1e-5, atol=1e-5)


def test_a_policy_that_is_not_finite_freezes_the_critics_of_its_run(moves):
    agent = CQL(moves.spec, seeds=2, **SMALL)
    agent.policy.head.weight.data[0] = float("nan")
    before = agent.critics.head.weight.clone()
    train_steps(agent, moves, 1)
    assert agent.active.tolist() == [False, True]
    assert torch.equal(agent.critics.head.weight[0], before[0])
    assert not torch.equal(agent.critics.head.weight[1], before[1])


def test_gradients_stay_in_their_network(moves):
    """The critics' loss does not move the policy, nor the policy's loss the critics, nor either the weights."""
    agent = CQL(moves.spec, lagrange="corl", backup_entropy=True, **SMALL)
    losses, _ = agent.losses(*one_batch(agent, moves))
    for name, loss in losses.items():
        for other, learner in agent.learners.items():
            grads = torch.autograd.grad(
                loss.sum(), list(learner.parameters.values()), retain_graph=True, allow_unused=True
            )
            moved = any(g is not None and g.abs().max() > 0 for g in grads)
            if other == name:
                assert moved, name
            elif (name, other) != ("policy", "critics"):  # there it flows through, and is not used
                assert not moved, (name, other)


def test_first_steps_clone_the_actions_of_the_data(moves):
    """With `bc_steps` the policy's loss depends on the data's actions, up to that step and not beyond it."""
    agent = CQL(moves.spec, bc_steps=3, **SMALL)
    seen = []
    for _ in range(5):
        batch, noise = one_batch(agent, moves)
        other = batch._replace(action=-batch.action)
        seen.append(
            agent.losses(batch, noise)[0]["policy"].item()
            != agent.losses(other, noise)[0]["policy"].item()
        )
        agent.update(batch, noise)
    assert seen == [True, True, True, False, False]


def test_state_survives_a_round_trip(moves):
    options = {**SMALL, "lagrange": "official", "bc_steps": 3}
    agent, other = (CQL(moves.spec, seeds=2, **options) for _ in range(2))
    train_steps(agent, moves, 5)
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    assert other.steps.item() == 5
    train_steps(agent, moves, 3)
    train_steps(other, moves, 3)
    for name, p in parameters(agent).items():
        assert torch.equal(p, parameters(other)[name]), name


# --- regularizers, projections, probe, options ---


def test_dr3_lowers_the_dot_product_that_the_probe_measures_on_critics(moves):
    agent = CQL(moves.spec, regularizers={"dr3": [0.0, 1.0]}, **SMALL)
    loop = Loop(agent, moves, TrainOptions(steps=60, log_every=0, eval_every=0), None)
    for _ in range(60):
        loop.advance()
    measured = loop.probe()
    assert measured["rank/srank"].shape == measured["head/norm"].shape == (2,)
    assert measured["feature/dot"][1] < 0.8 * measured["feature/dot"][0]
    phi, phi_next = agent.features(probe_batch(moves.columns(), 200, 2))
    assert phi.shape == phi_next.shape == (2, 2, 200, 16)
    assert agent.head_weight.shape == (2, 2, 1, 16)
    actions = agent.act(torch.from_numpy(moves.next_obs).expand(2, -1, -1))
    assert actions.shape == (2, 200, ACT)
    torch.testing.assert_close(
        phi_next[:, 1],
        agent.critics(torch.from_numpy(moves.next_obs).expand(2, -1, -1), actions)[0][
            :, 1
        ].detach(),
    )


def test_max_norm_gives_each_neuron_of_each_critic_its_ball(moves):
    agent = CQL(
        moves.spec, seeds=2, variants={"ball": {"projections.max_norm": 0.1}}, **SMALL, lr=1e-3
    )
    train_steps(agent, moves, 60)
    now, start = agent.learners["critics"].parameters, agent.learners["critics"].initial
    for layer, width, fan_in in (
        ("torso.layers.0", 16, OBS + ACT),
        ("torso.layers.1", 16, 16),
        ("head", 1, 16),
    ):
        weight, bias = (
            now[f"{layer}.{kind}"] - start[f"{layer}.{kind}"] for kind in ("weight", "bias")
        )
        norms = torch.cat([weight, bias.unsqueeze(-1)], -1).norm(
            dim=-1
        )  # [R, E, neurons], each with its own ball
        torch.testing.assert_close(
            norms.amax(-1), torch.full((2, 2), 0.1 / (width * fan_in) ** 0.5), rtol=1e-3, atol=0
        )


def test_regularizers_see_every_critic(moves):
    seen = {}

    def look(ctx):
        names = ("features", "q", "q_values", "target", "next_features")
        seen.update({name: getattr(ctx, name).shape for name in names})
        seen["target_features"] = ctx.next_features_target.shape
        assert ctx.next_features.requires_grad
        assert not ctx.next_features_target.requires_grad
        return ctx.features.square().mean((1, 2, 3))

    train_steps(
        CQL(moves.spec, seeds=3, regularizers={"own": {"fn": look, "coef": 0.1}}, **SMALL), moves, 1
    )
    assert seen["features"] == seen["next_features"] == seen["target_features"] == (3, 2, 8, 16)
    assert (seen["q"], seen["q_values"], seen["target"]) == ((3, 2, 8), (3, 2, 8, 9), (3, 8))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_explicit_options_win(moves, preset):
    agent = CQL(moves.spec, preset=preset, **{**SMALL, "alpha": 0.25})
    assert agent.config.alpha == 0.25
    assert agent.config.lagrange == PRESETS[preset].get("lagrange", "off")
    assert ("multiplier" in agent.learners) == (agent.config.lagrange != "off")
    metrics = train_steps(agent, moves, 2)
    assert all(torch.isfinite(value).all() for value in metrics.values())


def test_lagrange_weight_starts_where_its_code_starts_it_and_follows_the_gap(moves):
    start = {
        form: CQL(moves.spec, lagrange=form, **SMALL).log_weight("multiplier").item()
        for form in td.LAGRANGES
    }
    assert start == {"official": 0.0, "corl": 1.0, "d3rlpy": 0.0}
    agent = CQL(moves.spec, lagrange="official", gap=[-100.0, 100.0], **SMALL)
    train_steps(agent, moves, 3)
    assert agent.log_weight("multiplier")[0] > 0 > agent.log_weight("multiplier")[1]


def test_entropy_weight_follows_its_target_and_may_be_kept(moves):
    agent = CQL(moves.spec, target_entropy=[-20.0, 20.0], **SMALL)
    train_steps(agent, moves, 3)
    assert agent.entropy_coef[0] < 1 < agent.entropy_coef[1]
    kept = CQL(moves.spec, entropy_lr=0.0, entropy_coef=0.3, **SMALL)
    train_steps(kept, moves, 3)
    assert kept.entropy_coef.item() == pytest.approx(0.3)


def test_orthogonal_layers_are_orthogonal_and_drawn_by_run_and_critic():
    critics = Critics(30, 2, (2, 2), (32, 32))
    reset_runs(critics, [0, 1])
    reinit_runs([(critics, "orthogonal")], [0, 1])
    weight = critics.torso.layers[1].weight.detach()
    torch.testing.assert_close(
        weight @ weight.mT, 2 * torch.eye(32).expand(2, 2, 32, 32), atol=1e-5, rtol=0
    )
    assert len({round(w[0, 0].item(), 6) for w in weight.flatten(0, 1)}) == 4
    torch.testing.assert_close(critics.head.weight.norm(dim=-1), torch.full((2, 2, 1), 0.01))
    assert critics.torso.layers[0].bias.abs().max() == 0
    alone = Critics(30, 2, (1, 2), (32, 32))
    reset_runs(alone, [1])
    reinit_runs([(alone, "orthogonal")], [1])
    assert torch.equal(alone.torso.layers[1].weight[0], critics.torso.layers[1].weight[1])


def test_small_heads_start_near_zero_and_networks_from_different_numbers(moves):
    agent = CQL(moves.spec, init="small_head", **SMALL)
    bound = 0.01 * (6 / (16 + 1)) ** 0.5
    assert 0.5 * bound < agent.critics.head.weight.abs().max() <= bound
    assert agent.critics.head.bias.abs().max() == agent.policy.head.bias.abs().max() == 0
    first = (
        agent.critics.torso.layers[0].weight[0, 0].flatten(),
        agent.policy.torso.layers[0].weight[0].flatten(),
    )
    assert abs(torch.corrcoef(torch.stack([x[:64].detach() for x in first]))[0, 1]) < 0.5


def test_layer_norm_is_in_the_critics(moves):
    agent = CQL(moves.spec, layer_norm=True, **SMALL)
    train_steps(agent, moves, 3)
    assert {"critics.torso.norms.0.gain", "critics.torso.norms.1.shift"} <= set(parameters(agent))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "cql/coral"}, "did you mean 'cql/corl'"),
        ({"min_q_weight": 5.0}, "unknown key"),
        ({"backup": "max"}, "'max_then_min'"),
        ({"lagrange": True}, "'official'"),
        ({"gamma": 1.0}, r"gamma = 1\.0"),
        ({"tau": [0.1, 0.0]}, r"tau\[1\]"),
        ({"alpha": -1.0}, "alpha"),
        ({"temperature": 0.0}, "temperature"),
        ({"n_critics": 0}, "n_critics"),
        ({"action_samples": 0}, "action_samples"),
        ({"log_std_range": (2.0, -5.0)}, "log_std_range"),
        ({"clip_diff_min": 1.0, "clip_diff_max": 0.0}, "clip_diff_min"),
        ({"entropy_coef": 0.0}, "entropy_coef"),
        ({"regularizers": {"dr33": 0.1}}, "dr3"),
        ({"projections": {"max_norm": 0.0}}, "radius"),
        ({"init": "xavier"}, "'orthogonal'"),
        ({"variants": {"a": {"tau": 2.0}}}, "tau"),
    ],
)
def test_bad_options_are_one_line_that_names_them(moves, options, message):
    with pytest.raises(InputError, match=message) as caught:
        CQL(moves.spec, **options)
    assert "\n" not in str(caught.value)


def test_discrete_and_shapeless_actions_are_refused():
    for spec in (Spec((4,), 3), Spec((4,), None, (2, 3))):
        with pytest.raises(InputError, match="expected continuous actions"):
            CQL(spec)


# --- learning ---


def swing_up(obs, rng):
    """Pump energy into the pendulum and hold it on top; seven actions in ten are random. Torques in [-2, 2]."""
    cos, sin, speed = obs.T
    lacks_energy = (speed**2 / 6 + 5 * (cos - 1)).clip(-1, 1)
    torque = np.where(
        cos > 0.85, -(8 * np.arctan2(sin, cos) + 2 * speed), -2 * np.sign(speed) * lacks_energy
    )
    wander = rng.random(len(obs)) < 0.7
    return np.where(wander, rng.uniform(-2, 2, len(obs)), torque.clip(-2, 2))[:, None].astype(
        np.float32
    )


def test_pendulum_is_learned_far_beyond_the_policy_that_made_the_data(tmp_path):
    collect("Pendulum-v1", swing_up, 10_000, tmp_path / "pendulum.hdf5", n_envs=50)
    raw = rlop.load_dataset(tmp_path / "pendulum.hdf5")
    data = dataclasses.replace(
        raw, reward=raw.reward * 0.1
    )  # returns of some -100 rather than -1000
    rates = {
        "lr": 3e-3,
        "policy_lr": 3e-3,
        "entropy_lr": 3e-3,
        "tau": 0.02,
        "gamma": 0.95,
        "alpha": 1.0,
    }
    agent = CQL(
        data.spec, hidden=(64, 64), policy_hidden=(64, 64), batch_size=64, action_samples=4, **rates
    )
    score = Evaluator("Pendulum-v1", agent.runs.seeds, episodes=20, spec=data.spec)
    before = score(agent)["eval/return"].item()
    rlop.train(agent, data, 2000, log_every=0, probe_every=0, progress=False)
    after = score(agent)["eval/return"].item()
    score.close()
    behaviour = raw.episode_returns().mean()
    assert before < behaviour < -600
    assert after > behaviour + 400
