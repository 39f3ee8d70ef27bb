"""Training on replay logs: from frames, arrays and files alike, and on a rolling window."""

from __future__ import annotations

import weakref
from functools import partial

import numpy as np
import pytest
import torch
from helpers.replay import NAME, plain, save_three
from rlop.agents import BC, DQN

import rlop
from rlop.data import read_dqn_replay
from rlop.data.dqn_replay import window as window_module
from rlop.data.dqn_replay.window import RollingWindow
from rlop.training import compile as compile_module
from rlop.training import loop as loop_module
from rlop.training.loop import Loop, TrainOptions
from rlop.training.run import Experiment, data_of
from rlop.types import InputError

SMALL = {"hidden": (8, 8), "batch_size": 8, "target_period": 7, "seeds": 2}
OFTEN = {
    "log_every": 10,
    "probe_every": 20,
    "probe_size": 64,
    "checkpoint_every": 30,
    "progress": False,
}


@pytest.fixture
def root(tmp_path):
    save_three(tmp_path)
    return tmp_path


@pytest.fixture
def data(root):
    return read_dqn_replay(NAME, root=root)


@pytest.fixture
def mapped(root):
    return read_dqn_replay(NAME, root=root, memory_gb=8e-5, cache=root / "cache")


def parameters(agent):
    return torch.cat([p.detach().flatten() for p in agent.main.parameters.values()])


def test_training_is_the_same_from_frames_arrays_and_files(data, mapped):
    def trained(source):
        agent = DQN(data.spec, regularizers={"dr3": 0.1}, **SMALL)
        history = rlop.train(agent, source, 40, **OFTEN)
        _, rank = history.get("rank/srank")
        _, loss = history.get("loss/td")
        return parameters(agent), rank, loss

    expected, rank, loss = trained(data)
    untrained = DQN(data.spec, regularizers={"dr3": 0.1}, **SMALL)
    assert not torch.equal(expected, parameters(untrained))

    for source in (plain(data), mapped):
        same_parameters, same_rank, same_loss = trained(source)
        assert torch.equal(expected, same_parameters)
        assert np.array_equal(rank, same_rank)
        assert np.array_equal(loss, same_loss)


def test_resuming_from_mapped_frames_continues_exactly(mapped, tmp_path):
    logdir = tmp_path / "log"
    straight, resumed = DQN(mapped.spec, **SMALL), DQN(mapped.spec, **SMALL)
    rlop.train(straight, mapped, 60, **OFTEN)
    rlop.train(DQN(mapped.spec, **SMALL), mapped, 37, logdir=logdir, **OFTEN)
    rlop.train(resumed, mapped, 60, logdir=logdir, resume=True, **OFTEN)
    assert torch.equal(parameters(straight), parameters(resumed))


def test_behavior_cloning_trains_on_frames(data):
    agent = BC(data.spec, hidden=(8, 8), batch_size=8, seeds=2)
    before = parameters(agent)
    rlop.train(agent, data, 5, progress=False)
    assert not torch.equal(before, parameters(agent))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5000}, "batch_size = 5000: larger than the data set"),
        ({"backup": "behaviour"}, "needs discrete actions and plain arrays"),
    ],
)
def test_agents_that_do_not_fit_are_refused(data, options, message):
    agent = DQN(data.spec, hidden=(4, 4), **options)
    with pytest.raises(InputError, match=message):
        Loop(agent, data, TrainOptions(), None)


# ---- rolling windows


def agent_on(window):
    return DQN(window.spec, seeds=2, hidden=(8,), batch_size=8)


def test_a_rolling_window_draws_other_files(root):
    def draws(seed):
        window = RollingWindow(f"{NAME}?subset=20%", 2, seed=seed, root=root, n_actions=4)
        return [tuple(np.unique(window.draw(number).infos["file"])) for number in range(12)]

    assert draws(0) == draws(0)
    assert set(draws(0)) == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(InputError, match="n_files = 4: expected 1 to 3"):
        RollingWindow(NAME, 4, root=root)
    with pytest.raises(InputError, match="files: are drawn"):
        RollingWindow(NAME, 2, root=root, files=[1])


class Watch:
    """Reads draws, and fails while the frames of an earlier one are in memory."""

    def __init__(self, read):
        self.read = read
        self.forget()

    def forget(self):
        self.files = []  # of every draw
        self.frames = []  # weak references

    def __call__(self, *args, **options):
        assert all(earlier() is None for earlier in self.frames)
        data = self.read(*args, **options)
        self.frames.append(weakref.ref(data.obs.frames))
        self.files.append(options["files"])
        return data


@pytest.fixture
def watch(monkeypatch):
    watch = Watch(window_module.read_dqn_replay)
    monkeypatch.setattr(window_module, "read_dqn_replay", watch)
    return watch


@pytest.fixture(params=[None, 1e-4], ids=["memory", "file"])
def trained(request, root, watch):
    """Train on a window up to each of some steps, resumed in between; return the parameters."""
    options = {"memory_gb": request.param, "cache": root / "cache"} if request.param else {}

    def train(logdir, *ends, compile=False):
        for number, end in enumerate(ends):
            watch.forget()
            window = RollingWindow(NAME, 1, seed=2, root=root, **options)
            agent = agent_on(window)
            rlop.train(
                agent,
                window,
                end,
                logdir=root / logdir,
                resume=number > 0,
                compile=compile,
                reload_every=40,
                log_every=10,
                probe_every=0,
                progress=False,
            )
        return torch.cat([p.detach().flatten() for p in agent.online.parameters()])

    return train


def test_training_on_a_window_holds_one_draw_at_a_time_and_resumes(root, watch, trained):
    """A training cut anywhere goes on with the same numbers."""
    window = RollingWindow(NAME, 1, seed=2, root=root)
    first, second, third = (window.files(number) for number in (0, 1, 2))
    whole = trained("whole", 100)
    assert watch.files == [first, second, third]
    assert first != second != third

    assert torch.equal(whole, trained("inside", 55, 100))
    assert torch.equal(whole, trained("between", 80, 100))
    assert watch.files == [first, third]


@pytest.mark.parametrize("trained", [1e-4], ids=["file"], indirect=True)
def test_compiled_training_on_a_window_does_so_too(watch, trained, monkeypatch):
    """Two draws, because each is traced again."""
    eager = partial(compile_module.Compiled, backend="eager")
    monkeypatch.setattr(loop_module, "Compiled", eager)
    whole = trained("whole", 60, compile=True)
    assert len(watch.files) == 2
    assert torch.equal(whole, trained("inside", 50, 60, compile=True))
    assert len(watch.files) == 2
    torch.testing.assert_close(whole, trained("plain", 60))


def test_a_window_and_its_interval_go_together(root, data):
    with pytest.raises(InputError, match="reload_every = 10: expected data with a window"):
        Loop(agent_on(data), data, TrainOptions(reload_every=10), None)
    with pytest.raises(InputError, match="window = 5, reload_every = 0: expected both"):
        Experiment(window=5)

    experiment = Experiment(data=NAME, window=2, reload_every=10, data_options={"root": root})
    window = data_of(experiment)
    assert isinstance(window, RollingWindow)
    assert window.name == "dqn-replay:Pong/1, 2 of 3 checkpoints"
    assert len(window) == len(window.draw(0))
