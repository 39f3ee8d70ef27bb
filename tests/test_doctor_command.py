"""`rlop doctor`: what it prints, reads and refuses."""

import pytest
import torch
import yaml
from helpers.training import SMALL_CONFIG

from rlop.cli import main
from rlop.doctor.words import WORDS
from rlop.training.run import agent_name, from_args


@pytest.fixture
def folder(tmp_path):
    """A training in its folder."""
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL_CONFIG))
    assert main(["train", str(config), "--logdir", str(tmp_path / "run"), "--quiet"]) == 0
    return tmp_path / "run"


def test_a_training_is_diagnosed_on_the_data_that_it_names(folder, capsys):
    capsys.readouterr()
    assert main(["doctor", str(folder), "--refit-steps", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("seed=0\n")
    assert "ok: " in printed
    assert "No rank predicts a return" in printed

    page = folder / "doctor.html"
    arguments = ["--data", "gridworld?size=3&steps=60&epsilon=0", "--html", str(page)]
    assert main(["doctor", str(folder / "checkpoint.pt"), *arguments, "--refit-steps", "0"]) == 0
    text = page.read_text()
    assert "<h1>Diagnosis of" in text
    assert "What nobody may conclude" in text
    assert "http" not in text.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_nothing_that_a_folder_names_is_imported(folder, capsys):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"data": "evil_module:load"}))
    assert main(["doctor", str(folder)]) == 2
    assert "evil_module:load: is imported only if allowed, --allow evil" in capsys.readouterr().err

    changed = config | {"transforms": {"relabel": {"function": "evil_module:reward"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(changed))
    assert main(["doctor", str(folder), "--data", SMALL_CONFIG["data"]]) == 2
    assert "--allow evil_module" in capsys.readouterr().err

    (folder / "config.yaml").unlink()
    assert main(["doctor", str(folder)]) == 2
    assert "--data: expected a data set" in capsys.readouterr().err


def test_wrong_calls_are_refused_in_one_line(tmp_path, capsys):
    for arguments, message in (
        ([str(tmp_path / "none.pt")], "none.pt: no such checkpoint"),
        ([str(tmp_path), "--part", "q"], "--part q: expected --from with it"),
        ([str(tmp_path / "a.pt"), "--from", "corl"], "--data: expected a data set with --from"),
    ):
        assert main(["doctor", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_a_network_of_a_script_is_diagnosed(tmp_path, capsys):
    """A CleanRL DQN whose values are all far too high."""
    sizes = [(12, 6), (12, 12), (5, 12)]
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, size in zip((0, 2, 4), sizes):
        state[f"network.{number}.weight"] = torch.randn(size, generator=generator) * 0.3
        state[f"network.{number}.bias"] = torch.zeros(size[0])
    state["network.4.bias"] += 500
    torch.save(state, tmp_path / "dqn.cleanrl_model")

    data = ["--data", "gridworld?size=3&steps=200", "--refit-steps", "0"]
    file = str(tmp_path / "dqn.cleanrl_model")
    assert main(["doctor", file, "--from", "cleanrl", "--part", "q", *data]) == 0
    printed = capsys.readouterr().out
    assert "SICK: divergence." in printed
    assert "SICK: over-estimation." in printed
    assert "rlop train" not in printed  # it was not trained here


@pytest.mark.parametrize("disease", [name for name, words in WORDS.items() if words.remedy])
def test_every_remedy_is_a_command_that_our_trainings_take(disease, tmp_path):
    config = tmp_path / "small.yaml"
    agent = {"name": "CQL"} if disease == "policy on the bound" else SMALL_CONFIG["agent"]
    config.write_text(yaml.safe_dump({**SMALL_CONFIG, "agent": agent}))
    experiment, _ = from_args([str(config), *WORDS[disease].remedy.split()])
    assert agent_name(experiment) == agent["name"]
