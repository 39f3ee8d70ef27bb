"""CORL's classes in the study of returns, with a checkout that has one class of their form."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.data import steps_of
from helpers.experiments import main_program

from rlop.experiments.returns_settings import SETTINGS

# One class of the names and arguments that CORL's script of BC has.
BC = """
from dataclasses import dataclass
import numpy as np
import torch

@dataclass
class TrainConfig:
    env: str = ""
    discount: float = 0.5

class ReplayBuffer:
    def __init__(self, n_obs, n_actions, size):
        self.size = size

    def load_d4rl_dataset(self, data):
        self.data = data
        assert len(data["observations"]) == self.size

    def sample(self, batch_size):
        rows = np.random.randint(0, self.size, batch_size)
        return [torch.as_tensor(self.data["actions"][rows])]

class Actor(torch.nn.Linear):
    def __init__(self, n_obs, n_actions, max_action):
        super().__init__(n_obs, n_actions)

class BC:
    def __init__(self, max_action, actor, optimizer, discount):
        self.actor, self.steps, self.discount = actor, 0, discount

    def train(self, batch):
        self.steps += 1
        assert batch[0].shape == (16, 1)
        assert self.discount == 3e-1
        with torch.no_grad():
            self.actor.bias.fill_(self.steps)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """`scripts.corl.study` with that checkout."""
    scripts, configs = tmp_path / "algorithms/offline", tmp_path / "configs/offline/bc/hopper"
    scripts.mkdir(parents=True)
    configs.mkdir(parents=True)
    (scripts / "any_percent_bc.py").write_text(BC)
    (configs / "medium_v2.yaml").write_text("env: hopper-medium-v2\ndiscount: 3e-1\nname: BC\n")
    monkeypatch.setenv("CORL_DIR", str(tmp_path))
    names = ("scripts.corl.checkout", "scripts.corl.classes", "scripts.corl.study")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    from scripts.corl import study

    yield study
    for name in names:
        del sys.modules[name]


class Played:
    """An evaluator whose return is the first action at the origin."""

    def __init__(self, env_id, seeds, episodes, spec):
        self.zeros = np.zeros((1, 1, *spec.obs_shape), dtype=np.float32)

    def __call__(self, policy):
        with torch.no_grad():
            action = policy.one_run(0).act(torch.from_numpy(self.zeros))
        assert action.shape == (1, 1, 1)
        return {"eval/return": action[:, 0, 0].numpy()}

    def close(self):
        pass


def test_a_class_is_trained_for_every_seed_and_played_at_half_time(study, monkeypatch):
    monkeypatch.setattr(study, "Evaluator", Played)
    monkeypatch.setattr(study, "commit", lambda: "6afec90")
    setting = replace(SETTINGS[0], updates=6, batch_size=16)
    training = study.run_setting(setting, steps_of(5, terminated=True))
    assert training.returns == [[3.0] * 4, [6.0] * 4]
    assert training.steps == [3, 6]
    assert training.config == {"env": "hopper-medium-v2", "discount": "3e-1", "batch_size": 16}
    assert training.versions["CORL"] == "6afec90"
    assert (training.source, training.title) == ("hopper", "BC")


def test_without_a_checkout_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CORL_DIR", raising=False)
    monkeypatch.delitem(sys.modules, "scripts.corl.checkout", raising=False)
    code = main_program(monkeypatch, "returns_corl.py", "decide", "--records", tmp_path)
    assert code == 2
    assert "not installed: CORL, a checkout in $CORL_DIR" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
