"""Names in files and configurations choose no code, and lead nowhere else."""

import sys

import h5py
import numpy as np
import pytest
import torch
from rlop.agents import DQN

import rlop
from rlop.config.files import LARGEST_YAML, read_yaml
from rlop.data import load_dataset
from rlop.training.checkpoint import load_agent
from rlop.types import InputError

ENDS = np.arange(12) % 4 == 3


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A file that names an environment of a module beside it, which leaves a trace if imported."""
    (tmp_path / "beside_the_data.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = np.zeros((12, 2)), np.arange(12) % 2
        file["rewards"], file["terminals"] = np.ones(12), ENDS
        file.attrs["env_id"] = "beside_the_data:Env-v0"
    return path


def test_an_environment_in_a_module_is_not_taken_from_a_file(named, caplog):
    assert load_dataset(named).spec.env_id is None
    assert "beside_the_data" not in sys.modules
    assert "names the environment 'beside_the_data:Env-v0'" in caplog.text
    # The user's own word counts, and so does a module that is imported anyway.
    assert load_dataset(named, env_id="beside_the_data:Env-v0").spec.env_id is not None
    with h5py.File(named, "a") as file:
        file.attrs["env_id"] = "gymnasium:CartPole-v1"
    assert load_dataset(named).spec.env_id == "gymnasium:CartPole-v1"


@pytest.mark.parametrize("name", ["../outside", "/etc", "a/../../b", "a//b", ""])
def test_ids_of_minari_are_no_paths(name):
    with pytest.raises(InputError, match="expected an id such as"):
        load_dataset(f"minari:{name}")


def test_configurations_are_files_of_bounded_size(tmp_path):
    with pytest.raises(InputError, match="found a folder or a device"):
        read_yaml(tmp_path)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (LARGEST_YAML + 1))
    with pytest.raises(InputError, match=r"large\.yaml: .*4,194,305 bytes, expected at most"):
        read_yaml(large)


@pytest.mark.parametrize("key", ["agent", "config", "seeds", "spec", "state", "variants"])
@pytest.mark.parametrize("value", [None, 3, "text", [1], {"a": 1}], ids=str)
def test_other_content_in_a_checkpoint_is_one_line_or_harmless(tiny, tmp_path, key, value):
    agent = DQN(tiny.spec, hidden=(4,), batch_size=4)
    rlop.train(agent, tiny, 1, logdir=tmp_path, log_every=1, probe_every=0, progress=False)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, key: value}, path)
    try:
        load_agent(path)
    except InputError as error:
        message = str(error)
    else:
        message = str(path)  # such as variants: None, which is right
    assert str(path) in message or "agent" in message
    assert "\n" not in message
