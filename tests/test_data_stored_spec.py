"""What a checkpoint says of its data set, and of its state, is checked before it is used."""

import sys
from dataclasses import asdict, replace

import pytest
import torch
from rlop.agents import DQN

import rlop
from rlop.data.stored_spec import spec_from
from rlop.training.checkpoint import load_agent, save
from rlop.types import InputError, Spec

DISCRETE = Spec(
    obs_shape=(2, 3),
    n_actions=6,
    env_id="CartPole-v1",
    env_kwargs={"sutton_barto_reward": True},
    obs_normalizer=((0.0,) * 6, (1.0,) * 6),
    obs_keys=("a", "b/c"),
    action_start=1,
    action_counts=(2, 3),
    obs_axes=(1, 0),
)
CONTINUOUS = Spec(
    obs_shape=(4,),
    action_shape=(6,),
    action_low=(-1.0,) * 6,
    action_high=(2.0,) * 6,
    action_layout=(3, 2),
    changes=("clip_actions()",),
)


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_every_field_comes_back(spec):
    assert spec_from("x.pt", asdict(spec)) == spec


def test_fields_that_an_older_checkpoint_has_not_get_their_defaults():
    older = {"obs_shape": [3], "n_actions": 2, "action_shape": [], "obs_dtype": "uint8"}
    assert spec_from("x.pt", older) == Spec((3,), 2, obs_dtype="uint8")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("obs_shape", 3, "obs_shape = 3: expected lengths"),
        ("obs_shape", None, "obs_shape = None: expected lengths"),
        ("obs_shape", [2**20, 2**20], "obs_shape = .*: expected lengths"),
        ("obs_dtype", "O", "obs_dtype = O: expected the name of a type of numbers"),
        ("n_actions", True, "n_actions = True: expected a whole number from 1"),
        ("n_actions", 2**40, "n_actions = .*: expected a whole number from 1 to 100000"),
        ("env_id", 5, "env_id = 5: expected text"),
        ("env_kwargs", [1], r"env_kwargs = \(1,\): expected a mapping"),
        ("obs_normalizer", [[1.0]], "obs_normalizer = .*: expected two lists of finite numbers"),
        ("obs_normalizer", [[0.0], [1.0]], "obs_normalizer: expected 6 numbers, twice"),
        ("obs_keys", "ab", "obs_keys = ab: expected a list of texts"),
        ("obs_axes", [0, 0], r"obs_axes = \(0, 0\): expected an order of axes"),
        ("obs_axes", [2, 0, 1], r"obs_axes = \(2, 0, 1\): expected 2 axes"),
        ("changes", [1], r"changes = \(1,\): expected a list of texts"),
        ("action_low", [float("nan")], "action_low = .*: expected a list of finite numbers"),
        ("action_low", [0.0], "action_low, action_high: expected both, or neither"),
        ("action_start", 0.5, "action_start = 0.5: expected a whole number"),
        ("action_layout", [2, 2], r"action_layout = \(2, 2\): expected 1 in all"),
        ("action_counts", [2, 2], r"action_counts = \(2, 2\): expected 6 in all"),
        ("color", 1, "color: unknown, expected one of"),
    ],
)
def test_a_field_of_another_kind_is_named(name, value, message):
    with pytest.raises(InputError, match=rf"^x\.pt: spec\.{message}") as caught:
        spec_from("x.pt", {**asdict(DISCRETE), name: value})
    assert "\n" not in str(caught.value)


def test_a_checkpoint_chooses_no_module(caplog, monkeypatch):
    stored = asdict(replace(DISCRETE, env_id="module_of_a_stranger:Env-v0"))
    assert spec_from("x.pt", stored).env_id is None
    assert "x.pt: names the environment 'module_of_a_stranger:Env-v0'" in caplog.text
    assert spec_from("x.pt", stored, {"module_of_a_stranger"}).env_id == stored["env_id"]
    monkeypatch.setitem(sys.modules, "module_of_a_stranger", sys)
    assert spec_from("x.pt", stored).env_id == stored["env_id"]


def test_the_name_of_an_original_environment_is_no_module():
    stored = asdict(replace(CONTINUOUS, env_id="d4rl:hopper-medium-v2"))
    assert spec_from("x.pt", stored).env_id == "d4rl:hopper-medium-v2"


@pytest.fixture
def stored(tiny, tmp_path):
    """Path and content of a checkpoint."""
    path = save(tmp_path / "checkpoint.pt", DQN(tiny.spec, hidden=(4,), batch_size=4), 1)
    return path, torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("spec", [1], "spec: found list, expected a mapping"),
        ("config", None, "config: found NoneType, expected a mapping"),
        ("seeds", "x", "seeds: found str, expected a list of seeds"),
        ("step", True, "step: found bool, expected a whole number"),
        ("step", -1, "step = -1: expected at least 0"),
        ("state", {}, "state: damaged, or of other settings"),
        ("agent", "Nobody", "Nobody"),
        ("format", 4, "expected a checkpoint of format 3"),
        ("format", [], "expected a checkpoint of format 3"),
        ("format", 1, "state: damaged, or of other settings"),
    ],
)
def test_a_part_of_another_kind_is_named(stored, part, value, message):
    path, content = stored
    torch.save({**content, part: value}, path)
    with pytest.raises(InputError, match=message) as caught:
        load_agent(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["agent", "spec", "config", "seeds", "variants", "state", "step"])
def test_a_part_that_is_missing_is_named(stored, part):
    path, content = stored
    del content[part]
    torch.save(content, path)
    with pytest.raises(InputError, match=f"{part}: missing, expected"):
        load_agent(path)


@pytest.mark.parametrize("part", ["state", "streams"])
def test_a_resume_from_a_damaged_state_is_one_line(tiny, tmp_path, part):
    def train(steps, resume):
        agent = DQN(tiny.spec, hidden=(4,), batch_size=4)
        quiet = {"log_every": 1, "probe_every": 0, "progress": False}
        rlop.train(agent, tiny, steps, logdir=tmp_path, resume=resume, **quiet)

    train(1, False)
    path = tmp_path / "checkpoint.pt"
    torch.save({**torch.load(path, weights_only=True), part: {"wrong": 1}}, path)
    message = r"resume: the checkpoint's [a-z ]+: damaged, or of other settings"
    with pytest.raises(InputError, match=message) as caught:
        train(2, True)
    assert "\n" not in str(caught.value)


def test_an_environment_whose_arguments_name_a_file_is_left_out(caplog):
    stored = {**asdict(DISCRETE), "env_kwargs": {"xml_file": "/home/me/ant.xml"}}
    spec = spec_from("x.pt", stored)
    assert (spec.env_id, spec.env_kwargs) == (None, {})
    assert "x.pt: the keyword arguments of its environment name a file or code" in caplog.text
