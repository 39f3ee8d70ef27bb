"""Continuous agents on images: the shift, the encoder and who trains it, learning from pixels."""

import gymnasium
import numpy as np
import pytest
import torch
from helpers.training import first_batch, parameters_of, train_steps
from rlop.agents import CQL, EDAC, IQL, SACN, ReBRAC
from torch import nn

import rlop
from rlop import probes
from rlop.data.dataset import Dataset
from rlop.nets import DrQTorso, random_shift, reset_runs
from rlop.regularizers import dr3
from rlop.training.checkpoint import load_agent
from rlop.training.compile import Compiled
from rlop.types import InputError

SIDE = 16
SMALL = {"hidden": (16, 16), "policy_hidden": (16,), "batch_size": 8, "lr": 1e-3}
SHIFTED = {"width": 6, "random_shift": 2}
QUIET = {"log_every": 0, "probe_every": 0, "progress": False}


def points(rows, side=SIDE, discrete=False):
    """Return single steps: a point in an image, and the reward of an action near its column."""
    rng = np.random.default_rng(0)
    column, line = rng.integers(1, side - 2, (2, rows))
    obs = np.zeros((rows, side, side), np.uint8)
    for row in range(rows):
        obs[row, line[row] : line[row] + 2, column[row] : column[row] + 2] = 255
    obs = obs[..., None] if side == 10 else obs[:, None]  # MinAtar's network reads channels last

    best = (2 * column / (side - 2) - 1).astype(np.float32)[:, None]
    action = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    reward = -((action - best) ** 2)[:, 0]
    if discrete:
        action = rng.integers(0, 3, rows)
    ends = np.ones(rows, bool)
    return Dataset.from_arrays(obs, action, reward, ends, ~ends, obs), best


@pytest.fixture(scope="module")
def frames():
    """60 random transitions between images of two channels, in episodes of 6."""
    rng = np.random.default_rng(1)
    obs = rng.integers(0, 256, (60, 2, SIDE, SIDE), dtype=np.uint8)
    action = rng.uniform(-1, 1, (60, 2)).astype(np.float32)
    ends = np.arange(60) % 6 == 5
    terminated = ends & (np.arange(60) % 12 == 5)
    reward = rng.normal(size=60)
    next_obs = np.roll(obs, -1, 0)
    return Dataset.from_arrays(obs, action, reward, terminated, ends & ~terminated, next_obs)


AGENTS = {
    "CQL": (CQL, {"action_samples": 2}),
    "CQL lagrange": (CQL, {"action_samples": 2, "lagrange": "official"}),
    "EDAC": (EDAC, {"n_critics": 3}),
    "IQL": (IQL, {}),
    "ReBRAC": (ReBRAC, {"head": {"quantile": {"n": 4}}}),
}


def make(name, data, **options):
    agent, own = AGENTS[name]
    return agent(data.spec, **{**SMALL, "images": SHIFTED, **own, **options})


# --- the shift


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_shift_is_a_crop_of_the_image_with_a_replicated_border(channels_last):
    pad, rng = 3, np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 5, 3, 7, 9), dtype=np.uint8)  # [R, B, C, H, W]
    uniform = rng.random((2, 5, 2)).astype(np.float32)
    given = images.transpose(0, 1, 3, 4, 2) if channels_last else images
    axis = 2 if channels_last else 3
    shifted = random_shift(torch.from_numpy(given), torch.from_numpy(uniform), pad, axis).numpy()
    shifted = shifted.transpose(0, 1, 4, 2, 3) if channels_last else shifted

    assert shifted.dtype == np.uint8
    for run, row in np.ndindex(2, 5):
        padded = np.pad(images[run, row], ((0, 0), (pad, pad), (pad, pad)), mode="edge")
        top, left = np.floor(uniform[run, row] * (2 * pad + 1)).astype(int)
        crop = padded[:, top : top + 7, left : left + 9]
        np.testing.assert_array_equal(shifted[run, row], crop)


def test_no_shift_goes_beyond_the_border_however_large_the_random_number():
    images = torch.arange(5.0).expand(1, 1, 1, 5, 5)
    almost_one = torch.full((1, 1, 2), 1.0)
    assert random_shift(images, almost_one, 1)[0, 0, 0, 0].tolist() == [1, 2, 3, 4, 4]


def test_states_and_next_states_are_shifted_apart(frames):
    agent = make("EDAC", frames)
    batch, noise = first_batch(agent, frames)
    batch = batch._replace(next_obs=batch.obs)
    encoded, _ = agent.encoded(batch, noise)
    assert not torch.equal(encoded.obs, encoded.next_obs)
    unshifted = make("EDAC", frames, images={"width": 6})
    encoded, seen = unshifted.encoded(batch, {})
    assert encoded.obs.requires_grad
    assert not seen.obs.requires_grad
    assert torch.equal(encoded.obs, encoded.next_obs)


# --- the encoder


def test_the_torso_of_drq_equals_plain_pytorch():
    torso = DrQTorso(2, (3, 21, 17), 5)
    reset_runs(torso, [4, 5])
    torso.norm.gain.data.uniform_(0.5, 1.5)
    torso.double()
    images = torch.rand(2, 3, 3, 21, 17, dtype=torch.float64)
    features = torso(images)
    for run in range(2):
        x = images[run]
        for conv, stride in zip(torso.convs, (2, 1, 1, 1), strict=True):
            x = nn.functional.conv2d(x, conv.weight[run], conv.bias[run], stride).relu()
        x = x.flatten(1) @ torso.hidden.weight[run].T + torso.hidden.bias[run]
        x = nn.functional.layer_norm(x, (5,), torso.norm.gain[run], torso.norm.shift[run])
        torch.testing.assert_close(features[run], x.tanh())


@pytest.mark.parametrize("name", AGENTS)
def test_the_encoder_descends_the_loss_of_the_critics_alone(frames, name):
    agent = make(name, frames, seeds=2)
    batch, noise = first_batch(agent, agent.prepare(frames))
    losses, _ = agent.losses(batch, noise)
    assert losses["encoder"] is losses["critics"]
    encoder = agent.learners["encoder"]
    wanted = torch.autograd.grad(
        losses["critics"].sum(), list(encoder.parameters.values()), retain_graph=True
    )

    before = {key: p.detach().clone() for key, p in encoder.parameters.items()}
    agent.update(batch, noise)
    for (key, parameter), gradient in zip(encoder.parameters.items(), wanted, strict=True):
        moved = parameter - before[key]
        # Adam's first step goes against the sign of the gradient.
        clear = gradient.abs() > 1e-5
        assert clear.any(), key
        assert (moved[clear].sign() == -gradient[clear].sign()).all(), key


def test_the_critics_step_as_if_they_had_their_loss_alone():
    data, _ = points(32)
    agent = SACN(data.spec, images={"width": 4}, **SMALL)
    batch, noise = first_batch(agent, data)
    losses, _ = agent.losses(batch, noise)
    own = list(agent.learners["critics"].parameters.values())
    wanted = torch.autograd.grad(losses["critics"].sum(), own)
    norm = torch.stack([gradient.square().sum() for gradient in wanted]).sum().sqrt()

    metrics = agent.update(batch, noise)
    torch.testing.assert_close(metrics["grad/norm"][0], norm)
    assert metrics["grad/norm_encoder"][0] > 0


@pytest.mark.parametrize("name", AGENTS)
def test_a_run_alone_equals_itself_among_others(frames, name):
    many = make(name, frames, seeds=[3, 7])
    alone = make(name, frames, seeds=[7])
    train_steps(many, frames, 6)
    train_steps(alone, frames, 6)
    for key, parameter in parameters_of(many).items():
        torch.testing.assert_close(parameter[1], parameters_of(alone)[key][0], rtol=1e-4, atol=1e-5)
    obs = torch.from_numpy(frames.obs[:5]).expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(many.act(obs)[1:], alone.act(obs[1:]), rtol=1e-4, atol=1e-5)


def test_a_resumed_training_equals_an_uninterrupted_one(frames, tmp_path):
    options = {"log_every": 5, "probe_every": 0, "progress": False}
    whole, half, rest = (make("ReBRAC", frames, seeds=2) for _ in range(3))
    rlop.train(whole, frames, 10, logdir=tmp_path / "whole", **options)
    rlop.train(half, frames, 5, logdir=tmp_path / "half", **options)
    rlop.train(rest, frames, 10, logdir=tmp_path / "half", resume=True, **options)
    for key, parameter in parameters_of(whole).items():
        assert torch.equal(parameters_of(rest)[key], parameter), key

    again, _ = load_agent(tmp_path / "half" / "checkpoint.pt")
    obs = torch.from_numpy(frames.obs[:5]).expand(2, -1, -1, -1, -1)
    assert torch.equal(again.act(obs), whole.act(obs))
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    policy = rlop.load_policy(tmp_path / "half", run=1, action_space=space)
    torch.testing.assert_close(torch.as_tensor(policy(frames.obs[0])), whole.act(obs)[1, 0])


def test_a_compiled_update_equals_an_eager_one(frames, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr("rlop.training.loop.Compiled", lambda update: Compiled(update, "eager"))
    plain, fast = (make("IQL", frames, seeds=2, hidden=(8,)) for _ in range(2))
    rlop.train(plain, frames, 6, compile=False, **QUIET)
    rlop.train(fast, frames, 6, compile=True, **QUIET)
    for key, parameter in parameters_of(plain).items():
        torch.testing.assert_close(parameters_of(fast)[key], parameter, rtol=1e-4, atol=1e-5)


# --- DR3 on the encoder


def test_dr3_on_the_encoder_is_its_formula_and_moves_the_encoder_alone(frames):
    agent = make("EDAC", frames, images={"width": 6, "dr3": [0.0, 0.5]})
    batch, noise = first_batch(agent, frames)
    losses, metrics = agent.losses(batch, noise)
    here, there = agent.encode(batch.obs), agent.encode(batch.next_obs)
    penalty = dr3(here, there, 1 - batch.terminated)
    torch.testing.assert_close(metrics["reg/images.dr3"], penalty)
    gap = losses["critics"][1] - losses["critics"][0]
    torch.testing.assert_close(gap, 0.5 * penalty[1])

    both = [agent.learners[name].parameters.values() for name in ("critics", "encoder")]
    for parameters, differ in zip(both, (False, True)):
        gradients = torch.autograd.grad(
            losses["critics"].sum(), list(parameters), retain_graph=True
        )
        assert any(not torch.allclose(g[0], g[1], atol=1e-6) for g in gradients) == differ


def test_dr3_on_the_encoder_and_on_the_last_layer_lowers_what_each_names(frames):
    strong = {"regularizers": {"dr3": [0.0, 1.0]}, "lr": 1e-2}
    agent = make("EDAC", frames, images={"width": 6, "dr3": [0.0, 1.0]}, **strong)
    metrics = train_steps(agent, frames, 25)
    assert agent.runs.labels[0] != agent.runs.labels[1]
    values = {}
    for label, head, encoder in zip(
        agent.runs.hparams, metrics["reg/dr3"].tolist(), metrics["reg/images.dr3"].tolist()
    ):
        values[label["regularizers.dr3"], label["images.dr3"]] = head, encoder
    assert values[1.0, 0.0][0] < values[0.0, 0.0][0]
    assert values[0.0, 1.0][1] < values[0.0, 0.0][1] - 0.2


# --- learning, measuring, options


@pytest.mark.parametrize(("name", "encoder"), [("IQL", "minatar"), ("ReBRAC", "drq")])
def test_the_place_of_a_point_is_learned_from_pixels(name, encoder):
    data, best = points(300, 10 if encoder == "minatar" else SIDE)
    rates = {"lr": 3e-3, "policy_lr": 3e-3, "tau": 0.05, "batch_size": 32}
    own = {"IQL": {"inverse_temperature": 30.0, "value_lr": 3e-3}}
    own["ReBRAC"] = {"policy_bc": 0.0, "critic_bc": 0.0, "normalize_q": False, "head": "scalar"}
    options = {"hidden": (32, 32), **rates, **own[name]}
    agent = make(name, data, images={"encoder": encoder, "width": 16}, **options)
    rlop.train(agent, data, 150, compile=False, **QUIET)

    error = (agent.act(torch.from_numpy(data.obs)[None])[0].numpy() - best) ** 2
    assert error.mean() < 0.2 * best.var()


@pytest.mark.parametrize(
    "change", [{"encoder": "impala"}, {"width": 7}, {"random_shift": 1}, {"dr3": 1.0}], ids=str
)
def test_every_option_of_images_changes_the_training(frames, change):
    plain, other = (make("EDAC", frames, images={**SHIFTED, **more}) for more in ({}, change))
    for agent in (plain, other):
        train_steps(agent, frames, 2)
    ours, theirs = parameters_of(plain), parameters_of(other)
    same = ours.keys() == theirs.keys() and all(
        ours[key].shape == theirs[key].shape and torch.equal(ours[key], theirs[key]) for key in ours
    )
    assert not same


def test_discrete_iql_reads_images_and_probes_measure_it():
    data, _ = points(40, discrete=True)
    agent = IQL(data.spec, images={"width": 6}, **SMALL)
    train_steps(agent, data, 2)
    assert agent.act(torch.from_numpy(data.obs[:4])[None]).shape == (1, 4)
    assert np.isfinite(rlop.probe_agent(agent, data, size=30)["rank/srank"]).all()


def test_heavier_probes_measure_the_critics_on_what_the_encoder_makes(frames):
    agent = make("EDAC", frames)
    batch, _ = first_batch(agent, frames)
    for key, value in probes.pack(agent, batch, size=4).items():
        assert value.shape == (1,), key


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4,), {"images": {}}, "images.*expected image|observations with three axes"),
        ((4, 4), {}, r"one axis, or images with three, the data has \(4, 4\)"),
        ((1, 9, 30), {}, r"images.encoder = drq: .*>= 15"),
        ((1, 20, 20), {"images": {"encoder": "nature"}}, r"images.encoder = nature: .*>= 36"),
        ((40, 44, 3), {}, "transpose"),
        ((1, 20, 20), {"images": {"encoder": "mlp"}}, "images.encoder"),
        ((1, 20, 20), {"images": {"random_shift": -1}}, "random_shift = -1"),
        ((1, 20, 20), {"images": {"shift": 4}}, "images.shift"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_sentence(shape, options, message):
    obs = np.zeros((4, *shape), np.uint8 if len(shape) == 3 else np.float32)
    ends = np.ones(4, bool)
    data = Dataset.from_arrays(obs, np.zeros((4, 1), np.float32), np.zeros(4), ends, ~ends, obs)
    with pytest.raises(InputError, match=message) as caught:
        EDAC(data.spec, **options)
    assert "\n" not in str(caught.value)
