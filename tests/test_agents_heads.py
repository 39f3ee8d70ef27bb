"""Heads of DQN: losses against float64 NumPy twins on frames, backups, and learning a known Q*."""

import numpy as np
import pytest
import torch
from helpers.training import first_batch, parameters_of, train_steps
from rlop.agents import DQN, DiscreteCQL
from rlop.agents.dqn_config import PRESETS
from rlop.agents.heads import HEADS, make_head

import rlop
from rlop.data.dataset import Dataset
from rlop.data.sampler import Streams, Table
from rlop.training.evaluate import make_evaluator
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
BACKUPS = ("max", "double", "sarsa", "behavior", "mc")


@pytest.fixture(scope="module")
def frames():
    """40 random transitions between stacks of four frames, in episodes of 10."""
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 256, (40, 4, SIDE, SIDE), dtype=np.uint8)
    action, reward = rng.integers(0, 3, 40), rng.normal(size=40)
    terminated = np.arange(40) % 10 == 9
    never = np.zeros(40, bool)
    return Dataset.from_arrays(obs, action, reward, terminated, never, np.roll(obs, -1, 0))


# --- losses against NumPy


def convolve(x, weight, bias, stride):
    """Return a convolution without padding, `[B, C, H, W]` to `[B, O, H', W']`."""
    size = weight.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]


def nature(parameters, x):
    """Return features and outputs of the Nature network."""
    for layer, stride in enumerate((4, 2, 1)):
        weight = parameters[f"torso.convs.{layer}.weight"]
        bias = parameters[f"torso.convs.{layer}.bias"]
        x = np.maximum(convolve(x, weight, bias, stride), 0)

    flat = x.reshape(len(x), -1)
    features = flat @ parameters["torso.hidden.weight"].T + parameters["torso.hidden.bias"]
    features = np.maximum(features, 0)
    return features, features @ parameters["head.weight"].T + parameters["head.bias"]


def huber(error):
    return np.where(np.abs(error) <= 1, 0.5 * error**2, np.abs(error) - 0.5)


def scalar_loss(z, next_z, action, back_up, noise):
    """Return the TD loss of each transition and the action values, of outputs `[B, A, 1]`."""
    q, next_q = z[..., 0], next_z[..., 0]
    rows = np.arange(len(action))
    return huber(q[rows, action] - back_up(next_q.max(1))), q


def quantile_loss(z, next_z, action, back_up, noise):
    """Return the same of K quantiles, by the double sum of the paper."""
    rows, quantiles = np.arange(len(action)), z.shape[-1]
    best = next_z.mean(-1).argmax(1)
    loss = np.zeros(len(action))
    for j in range(quantiles):
        target = back_up(next_z[rows, best, j])
        for i in range(quantiles):
            error = target - z[rows, action, i]
            share = np.abs((i + 0.5) / quantiles - (error < 0))
            loss += share * huber(error) / quantiles

    return loss, z.mean(-1)


def rem_loss(z, next_z, action, back_up, noise):
    """Return the same of C mixtures of K values."""
    share = noise["mixture"].double().numpy()
    share = share / share.sum(0)
    q, next_q = z @ share, next_z @ share  # [B, A, C]
    rows = np.arange(len(action))
    losses = []
    for mixture in range(share.shape[1]):
        target = back_up(next_q[..., mixture].max(1))
        losses.append(huber(q[rows, action, mixture] - target))

    return np.mean(losses, axis=0), q.mean(-1)


def numpy_losses(agent, batch, noise, run, td_loss):
    """Return the TD loss and the total of one run, from the formulas and the weights alone."""
    online, target = {}, {}
    for parameters, network in ((online, agent.online), (target, agent.target)):
        for name, parameter in network.named_parameters():
            parameters[name] = parameter[run].detach().double().numpy()
    values = {name: numbers[run] for name, numbers in agent.runs.values.items()}
    obs = batch.obs[run].double().numpy() / 255
    next_obs = batch.next_obs[run].double().numpy() / 255
    action, reward = batch.action[run].numpy(), batch.reward[run].double().numpy()
    alive = 1 - batch.terminated[run].double().numpy()

    def back_up(next_value):
        return reward + values["gamma"] * alive * next_value

    size = len(action)
    features, z = nature(online, obs)
    next_features, _ = nature(online, next_obs)
    _, next_z = nature(target, next_obs)
    noise = {name: drawn[run] for name, drawn in noise.items()}
    z, next_z = z.reshape(size, 3, -1), next_z.reshape(size, 3, -1)
    td, q = td_loss(z, next_z, action, back_up, noise)

    gap = np.log(np.exp(q).sum(1)) - q[np.arange(size), action]
    dots = (features * next_features).sum(1) * alive
    penalty = values["regularizers.dr3"] * dots.mean()
    return td.mean(), td.mean() + values["alpha"] * gap.mean() + penalty


@pytest.mark.parametrize(
    ("name", "td_loss"),
    [("scalar", scalar_loss), ("quantile", quantile_loss), ("rem", rem_loss)],
)
def test_the_loss_equals_a_float64_numpy_twin_on_frames(frames, name, td_loss):
    agent = DQN(
        frames.spec,
        seeds=[3],
        variants={"plain": {}, "all": {"alpha": 0.5, "regularizers.dr3": 0.03, "gamma": 0.9}},
        head=CASES[name],
        network="nature",
        hidden=(16,),
        batch_size=6,
    )
    train_steps(agent, frames, 3)  # so that the target network differs
    batch = Table(frames.columns()).gather(torch.arange(12).expand(2, -1))
    _, noise = Streams([3, 3], 6, 40, agent.noise).next()

    losses, metrics = agent.losses(batch, noise)
    for run in range(2):
        td, total = numpy_losses(agent, batch, noise, run, td_loss)
        assert metrics["loss/td"][run].item() == pytest.approx(td, rel=1e-5)
        assert losses["q"][run].item() == pytest.approx(total, rel=1e-5)


# --- backups


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backup", BACKUPS)
def test_every_backup_gives_a_finite_loss_with_gradient_in_every_head(tiny, name, backup):
    # The `behavior` backup needs observations that repeat.
    repeats = backup == "behavior"
    data = rlop.load_dataset("gridworld?size=4&steps=300") if repeats else tiny
    agent = DQN(data.spec, head=CASES[name], backup=backup, **SMALL)
    before = {key: parameter.clone() for key, parameter in parameters_of(agent).items()}
    metrics = train_steps(agent, data, 2)

    for key, value in metrics.items():
        assert torch.isfinite(value).all(), key
    for key, parameter in parameters_of(agent).items():
        assert (parameter != before[key]).any(), key

    obs = torch.zeros(1, 4, *data.spec.obs_shape)
    assert agent.q_values(obs).shape == (1, 4, data.spec.n_actions)


def outputs_with_values_3_1_2(head):
    """Return z of 8 transitions and 3 actions whose first action is best, the second worst."""
    z = torch.tensor([3.0, 1.0, 2.0])[:, None].repeat(1, head.n)
    if not isinstance(head, HEADS["categorical"]):
        return head.split(z.flatten().expand(1, 8, -1))

    # Logits that put nearly all probability on the highest, the lowest and the middle return.
    z = torch.zeros(3, head.n)
    z[0, -1] = z[1, 0] = z[2, head.n // 2] = 20.0
    return head.split(z.flatten().expand(1, 8, -1))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("backup", "chosen"), [("max", 0), ("double", 2)])
def test_double_backs_up_the_choice_of_the_online_network(tiny, name, backup, chosen):
    """The target network prefers the first action, the online network the last."""
    agent = DQN(tiny.spec, head=CASES[name], backup=backup, gamma=0.5, **SMALL)
    batch, noise = first_batch(agent, tiny)
    next_z = outputs_with_values_3_1_2(agent.head)
    next_z_online = next_z.flip(2)

    particles, weights = agent.td_target(batch, noise, next_z, next_z_online)
    target = agent.head.target(particles, weights)

    value = agent.head.mean(next_z)[..., chosen]
    expected = batch.reward + 0.5 * (1 - batch.terminated) * value
    torch.testing.assert_close(target, expected)


def test_rem_shares_one_mixture_between_both_networks_and_acts_on_the_mean(tiny):
    agent = DQN(tiny.spec, head={"rem": {"n": 3}}, **SMALL)
    obs = torch.randn(1, 5, *tiny.spec.obs_shape)
    noise = {"mixture": torch.rand(1, 3, 1)}
    _, online = agent.outputs(agent.online, obs, noise)
    _, target = agent.outputs(agent.target, obs, noise)
    torch.testing.assert_close(online, target)

    z = agent.online(obs)[1].unflatten(-1, (-1, 3))
    torch.testing.assert_close(agent.q_values(obs), z.mean(-1))


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
    sizes = {"hidden": (32,), "batch_size": 32, "lr": 1e-2}
    agent = DQN(data.spec, head={name: options}, gamma=0.9, target_period=10, tau=1.0, **sizes)
    evaluate = make_evaluator(agent, data.spec.env_id, {}, 1)
    history = rlop.train(agent, data, 400, evaluate=evaluate, progress=False)
    _, errors = history.get("eval/q_error_max")
    assert errors[0].min() > 0.3
    assert errors[-1].max() < 0.08


# --- options


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
        ({"head": "ensemble", "optimizer": {"rmd": {"lam": 1}}}, "rmd: not with head ensemble"),
        ({"preset": "atari/c51"}, "atari/"),
        ({"network": "impala", "resets": {"every": 10, "kind": "redo"}}, "not with network impala"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_sentence(tiny, options, message):
    with pytest.raises(InputError, match=message) as caught:
        DQN(tiny.spec, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_an_agent_for_frames_and_give_way_to_options(frames, name):
    agent = DiscreteCQL(frames.spec, preset=name, batch_size=4, hidden=(8,))
    assert agent.config.batch_size == 4
    assert agent.config.adam_eps == 0.01 / 32
    assert agent.config.target_period == 2000
    assert torch.isfinite(train_steps(agent, frames, 1)["loss/total"]).all()


def test_a_reset_draws_from_the_initialization_of_the_agent(frames):
    resets = {"every": 1, "kind": "shrink_and_perturb", "shrink": 0.0, "noise": 1.0}
    agent = DQN(frames.spec, preset="atari/dqn", batch_size=4, hidden=(8,), resets=resets)
    rlop.train(agent, frames, 1, progress=False)

    hidden = agent.online.torso.hidden
    bound = (3**0.5 / hidden.weight[0][0].numel()) ** 0.5
    assert 0.9 * bound < hidden.weight.abs().max() <= bound
    assert (hidden.bias == 0).all()


def test_published_sizes():
    sizes = {name: make_head(name).n for name in HEADS}
    assert sizes == {
        "scalar": 1,
        "ensemble": 200,
        "rem": 200,
        "quantile": 200,
        "categorical": 51,
        "hl_gauss": 51,
    }
