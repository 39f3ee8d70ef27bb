"""DQN and discrete CQL: the loss against NumPy, the run axis, the compiled graph, divergence, projections."""

import warnings

import numpy as np
import pytest
import torch
from by_hand import updates
from rlop.agents import DQN, DiscreteCQL

import rlop
from rlop.data.sampler import Table, probe_batch
from rlop.training.loop import compiled
from rlop.types import InputError, Spec

SWEPT = {
    "plain": {},
    "cql": {"alpha": 0.3, "temperature": 0.5},
    "dr3": {"regularizers.dr3": 0.03},
    "ball": {"projections.max_norm": 0.5, "lr": 3e-3},
    "slow": {"lr": 1e-4, "gamma": 0.9},
    "soft": {"tau": 0.1},
    "both": {"regularizers.dr3": 0.1, "alpha": 0.1},
    "all": {"regularizers.dr3": 0.2, "alpha": 0.2, "projections.max_norm": 2.0},
}
SMALL = {"hidden": (16, 16), "batch_size": 8, "target_period": 3, "lr": 1e-3}


def numpy_twin(agent, batch, run, backup, gamma, alpha, temperature, coef):
    """Float64 loss of one run, written from the formulas and the weights alone."""
    params = {k: v[run].detach().double().numpy() for k, v in agent.online.named_parameters()}
    frozen = {k: v[run].double().numpy() for k, v in agent.target.named_parameters()}

    def forward(p, x):
        for layer in ("torso.layers.0", "torso.layers.1"):
            x = np.maximum(x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"], 0)
        return x, x @ p["head.weight"].T + p["head.bias"]

    s, s2 = batch.obs[run].double().numpy(), batch.next_obs[run].double().numpy()
    a, rows = batch.action[run].numpy(), np.arange(batch.action.shape[1])
    (phi, q), (phi2, q2), (_, t2) = forward(params, s), forward(params, s2), forward(frozen, s2)
    alive = 1 - batch.terminated[run].double().numpy()
    value = t2.max(1) if backup == "max" else t2[rows, q2.argmax(1)]
    error = q[rows, a] - (batch.reward[run].double().numpy() + gamma * alive * value)
    huber = np.where(np.abs(error) <= 1, 0.5 * error**2, np.abs(error) - 0.5)
    gap = temperature * np.log(np.exp(q / temperature).sum(1)) - q[rows, a]
    dots = (phi * phi2).sum(1) * alive
    return huber.mean() + alpha * gap.mean() + coef * dots.mean()


@pytest.mark.parametrize("backup", ["max", "double"])
def test_loss_equals_a_float64_numpy_twin(tiny, backup):
    agent = DQN(tiny.spec, seeds=[4], variants=SWEPT, backup=backup, **SMALL)
    updates(agent, tiny, 5)  # so that target and online networks differ
    batch = Table(tiny.columns()).gather(torch.arange(64).expand(len(agent.runs), -1))
    loss, metrics = agent.loss(batch, {})
    value = agent.runs.values
    for run in range(len(agent.runs)):
        expected = numpy_twin(
            agent,
            batch,
            run,
            backup,
            value["gamma"][run],
            value["alpha"][run],
            value["temperature"][run],
            value["regularizers.dr3"][run],
        )
        assert loss[run].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert torch.equal(metrics["loss/total"], loss)


@pytest.mark.parametrize("backup", ["max", "double", "sarsa", "behaviour", "mc"])
def test_a_run_alone_equals_itself_among_eight(tiny, backup):
    if backup == "behaviour":  # needs observations that repeat
        tiny.obs[:], tiny.next_obs[:] = tiny.obs[np.arange(200) % 7], tiny.obs[np.arange(200) % 5]
    options = {**SMALL, "backup": backup, "gamma": 0.5}
    variants = {k: {n: x for n, x in v.items() if n != "gamma"} for k, v in SWEPT.items()}
    many = DQN(tiny.spec, seeds=[7], variants=variants, **options)
    among = updates(many, tiny, 200)
    for run in (1, 3, 7):
        name = list(SWEPT)[run]
        # the same terms must be present; their values are those of the variant
        alone = DQN(
            tiny.spec,
            seeds=[7],
            variants={name: variants[name], "none": variants["all"]},
            **options,
        )
        metrics = updates(alone, tiny, 200)
        for key, p in many.online.named_parameters():
            torch.testing.assert_close(
                p[run], dict(alone.online.named_parameters())[key][0], rtol=1e-5, atol=1e-5
            )
        for key in metrics:
            assert metrics[key][0].item() == pytest.approx(
                among[key][run].item(), rel=1e-4, abs=1e-5
            ), key


def test_single_run_without_neighbours_equals_itself_among_eight(tiny):
    many = DQN(tiny.spec, seeds=8, alpha=0.1, **SMALL)
    alone = DQN(tiny.spec, seeds=[5], alpha=0.1, **SMALL)
    updates(many, tiny, 200)
    updates(alone, tiny, 200)
    for a, b in zip(many.online.parameters(), alone.online.parameters(), strict=True):
        torch.testing.assert_close(a[5], b[0], rtol=1e-5, atol=1e-5)


def test_no_metric_hides_a_sum_over_runs(tiny):
    """Eight equal runs report what one run reports."""
    eight = updates(
        DQN(tiny.spec, seeds=[5], alpha=[0.1] * 8, regularizers={"dr3": 0.03}, **SMALL), tiny, 20
    )
    one = updates(
        DQN(tiny.spec, seeds=[5], alpha=0.1, regularizers={"dr3": 0.03}, **SMALL), tiny, 20
    )
    for name, value in one.items():
        assert eight[name].shape == (8,)
        torch.testing.assert_close(eight[name], value.expand(8), rtol=1e-4, atol=1e-6)


def test_compiled_equals_eager_in_one_graph_without_recompilation(tiny):
    torch._dynamo.reset()
    eager, graph = (
        DQN(tiny.spec, seeds=1, variants=SWEPT, max_grad_norm=1.0, **SMALL) for _ in range(2)
    )
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    update = compiled(graph.update, backend=counter)
    expected, found = updates(eager, tiny, 20), updates(graph, tiny, 20, update)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    graph.alpha.fill_(0.7)  # a new coefficient is a new number, not a new graph
    updates(graph, tiny, 5, update)
    assert counter.frame_count == 1


def test_a_diverging_run_is_frozen_and_its_neighbour_goes_on(tiny):
    agent = DQN(tiny.spec, seeds=1, variants={"mad": {"lr": 1e18}, "calm": {}}, **SMALL)
    alone = DQN(tiny.spec, seeds=1, variants={"calm": {}}, **SMALL)
    updates(agent, tiny, 50)
    updates(alone, tiny, 50)
    assert agent.active.tolist() == [False, True]
    for a, b in zip(agent.online.parameters(), alone.online.parameters(), strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a[1], b[0], rtol=1e-5, atol=1e-5)


def test_max_norm_holds_after_every_update(tiny):
    agent = DQN(
        tiny.spec,
        projections={"max_norm": {"radius": [0.1, float("inf")], "center": "init"}},
        **SMALL,
    )
    updates(agent, tiny, 50)
    for name, p in agent.online.named_parameters():
        if not name.endswith("weight"):
            continue
        bias = name.removesuffix("weight") + "bias"
        moved = p - agent.learner.initial[name]
        joined = torch.cat(
            [
                moved,
                (dict(agent.online.named_parameters())[bias] - agent.learner.initial[bias])[
                    ..., None
                ],
            ],
            -1,
        )
        radius = 0.1 / (p.shape[1] * p.shape[2]) ** 0.5
        norms = joined.norm(dim=-1)
        assert norms[0].max().item() <= radius * (1 + 1e-4)
        assert norms[0].max().item() == pytest.approx(radius, rel=1e-3)  # it does bind
        assert norms[1].max().item() > 2 * radius


def test_targets_get_no_gradient_and_follow_the_period(tiny):
    agent = DQN(tiny.spec, **{**SMALL, "target_period": 10})
    start = [p.clone() for p in agent.target.parameters()]
    updates(agent, tiny, 9)
    assert all(torch.equal(a, b) for a, b in zip(start, agent.target.parameters(), strict=True))
    updates(agent, tiny, 10)
    assert all(
        torch.equal(a, b)
        for a, b in zip(agent.online.parameters(), agent.target.parameters(), strict=True)
    )


def test_cql_pushes_down_actions_that_the_data_lack(tiny):
    tiny.action[:] = 1
    dqn = updates_q(DQN(tiny.spec, **SMALL), tiny)
    cql = updates_q(DiscreteCQL(tiny.spec, **{**SMALL, "alpha": 1.0}), tiny)
    assert (cql[..., 0] - cql[..., 1]).mean() < (dqn[..., 0] - dqn[..., 1]).mean() - 1


def updates_q(agent, data):
    updates(agent, data, 200)
    return agent.q_values(torch.from_numpy(data.obs)[None])


def test_dr3_lowers_the_feature_dot_product(tiny):
    agent = DQN(tiny.spec, regularizers={"dr3": [0.0, 1.0]}, **SMALL)
    updates(agent, tiny, 200)
    batch = probe_batch(tiny.columns(), 200, 2)
    phi, phi_next = agent.features(batch)
    dots = (phi * phi_next).sum(-1).mean(-1)
    assert dots[1] < 0.5 * dots[0]


@pytest.mark.parametrize("preset", ["dr3/paper", "dr3/dopamine", "dr3/workflow", "dr3/jaxrl2"])
def test_every_preset_trains(tiny, preset):
    metrics = updates(DQN(tiny.spec, regularizers={preset: 0.1}, **SMALL), tiny, 3)
    assert metrics[f"reg/{preset}"].item() > 0


def test_a_regularizer_of_ones_own(tiny):
    def decay(ctx):
        return sum(p.square().flatten(1).sum(1) for p in ctx.parameters.values())

    agent = DQN(tiny.spec, regularizers={"decay": {"fn": decay, "coef": [0.0, 10.0]}}, **SMALL)
    updates(agent, tiny, 100)
    norms = [sum(p[run].square().sum() for p in agent.online.parameters()) for run in range(2)]
    assert norms[1] < norms[0]


def test_signed_dr3_warns_on_features_that_can_be_negative(tiny, monkeypatch):
    import importlib

    monkeypatch.setattr(importlib.import_module("rlop.regularizers.dr3"), "_warned", False)
    with pytest.warns(UserWarning, match="unbounded below"):
        DQN(tiny.spec, regularizers={"dr3": 0.1}, activation="tanh", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DQN(tiny.spec, regularizers={"dr3": 0.1}, activation="tanh", **SMALL)  # once only


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"gamma = 1\.5"),
        ({"lr": [1e-3, -1.0]}, r"lr"),
        ({"alhpa": 0.1}, "did you mean 'alpha'"),
        ({"backup": "maxx"}, "'max'"),
        ({"batch_size": "many"}, "batch_size"),
        ({"regularizers": {"dr33": 0.1}}, "dr3"),
        ({"regularizers": {"dr3": {"form": "abs"}}}, "coef is missing"),
        ({"regularizers": {"dr3": {"coef": 0.1, "fom": "abs"}}}, "form"),
        ({"projections": {"max_norm": 0.0}}, "radius"),
        ({"projections": {"max_norm": {"radius": 1.0, "center": "middle"}}}, "center"),
        ({"gamma": [0.9, 0.99], "n_step": 3}, "gamma differs"),
        ({"tau": 0.0}, "tau"),
        ({"variants": {"x": {"gamma": 1.5}}}, r"variants\.x.*gamma = 1\.5"),
        ({"variants": {"x": {"projections.max_norm": 0}}}, r"variants\.x.*max_norm"),
        ({"variants": {"x": {"regularizers.dr3": -1}}}, r"variants\.x.*dr3"),
        ({"variants": {"x": {"hidden": 3}}}, r"variants\.x.*hidden"),
        ({"variants": {"x": {"gamma": 0.5}, "y": {}}, "backup": "mc"}, "gamma differs"),
    ],
)
def test_bad_options_are_one_line_that_names_them(tiny, options, message):
    with pytest.raises(InputError, match=message) as caught:
        DQN(tiny.spec, **options)
    assert "\n" not in str(caught.value)


def test_continuous_actions_are_refused():
    with pytest.raises(InputError, match="discrete"):
        DQN(Spec((4,), None, (2,)))


def test_agents_are_found_by_name():
    from rlop.training.checkpoint import agent_class

    assert agent_class("DQN") is DQN
    with pytest.raises(InputError, match="did you mean 'DQN'"):
        agent_class("DQNN")


def test_top_level_names():
    assert set(rlop.__all__) <= set(dir(rlop)) | set(rlop._HOME)
    for name in rlop.__all__:
        assert callable(getattr(rlop, name))
