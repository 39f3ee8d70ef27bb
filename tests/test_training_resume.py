"""A resumed training is the uninterrupted one bit for bit; anything that differs is refused."""

import datetime
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from helpers.training import parameters_of
from rlop.agents import BC, DQN

import rlop
from rlop.data.dataset import Dataset
from rlop.logs.logger import read_metrics
from rlop.training.checkpoint import load, save
from rlop.training.loop import Loop
from rlop.training.resume import plain
from rlop.types import InputError, Interrupted
from scripts.same_training import differences

SMALL = {"hidden": (8,), "batch_size": 8, "target_period": 3}
# No two intervals have a factor in common, so that tasks meet at few steps.
ODD = {"log_every": 5, "probe_every": 3, "eval_every": 4, "checkpoint_every": 7, "progress": False}
END = 24


def make(data, **options):
    return DQN(data.spec, **{**SMALL, **options})


def scores(agent):
    """A score that depends on all parameters."""
    total = sum(p.detach().double().sum() for p in parameters_of(agent).values())
    return {"eval/return": np.full(len(agent.runs), float(total))}


def train(agent, data, logdir, steps=END, **options):
    return rlop.train(agent, data, steps, logdir=logdir, **{"evaluate": scores, **ODD, **options})


def contents(folder):
    """Return every file of a folder with its bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


class Asks(DQN):
    """DQN that gets a signal in one of its updates."""

    at = 0
    number = signal.SIGTERM

    def update(self, batch, noise):
        if self.main.steps == self.at - 1:
            os.kill(os.getpid(), self.number)
        return super().update(batch, noise)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Data, and the folder of an uninterrupted training on them."""
    rng = np.random.default_rng(0)
    n = 60
    data = Dataset.from_arrays(
        rng.normal(size=(n, 4)).astype(np.float32),
        rng.integers(3, size=n),
        rng.normal(size=n).astype(np.float32),
        np.arange(n) % 10 == 9,
        np.zeros(n, bool),
        n_actions=3,
    )
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(make(data), data, folder)
    return data, folder


# --- the very same numbers


@pytest.mark.parametrize("step", range(1, END))
def test_a_training_that_was_interrupted_at_any_step_ends_as_the_whole_one(whole, tmp_path, step):
    data, folder = whole
    agent = Asks(data.spec, **SMALL)
    agent.at = step
    with pytest.raises(Interrupted) as caught:
        train(agent, data, tmp_path / "run")
    assert caught.value.number == signal.SIGTERM
    assert load(tmp_path / "run" / "checkpoint.pt")["step"] == step

    train(make(data), data, tmp_path / "run", resume=True)
    assert differences(folder, tmp_path / "run") == []


@pytest.mark.parametrize("step", [1, 7, 10, 12])
def test_more_steps_give_what_they_would_have_given_at_once(whole, tmp_path, step):
    data, folder = whole
    train(make(data), data, tmp_path / "run", steps=step)
    train(make(data), data, tmp_path / "run", resume=True)
    assert differences(folder, tmp_path / "run") == []


def test_a_resume_of_a_training_that_reached_its_end_changes_nothing(whole, tmp_path):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    history = train(make(data), data, tmp_path / "run", resume=True)
    assert differences(folder, tmp_path / "run") == []
    assert history.steps[-1] == END


def test_an_evaluation_that_failed_is_made_by_the_resume(whole, tmp_path):
    data, folder = whole
    calls = []

    def fails_once(agent):
        calls.append(agent)
        if len(calls) == 4:
            raise RuntimeError("the simulator broke")
        return scores(agent)

    with pytest.raises(RuntimeError, match="simulator broke"):
        train(make(data), data, tmp_path / "run", evaluate=fails_once)
    train(make(data), data, tmp_path / "run", evaluate=fails_once, resume=True)
    assert differences(folder, tmp_path / "run") == []


def test_a_signal_within_an_evaluation_ends_it_at_once(whole, tmp_path):
    data, folder = whole
    calls = []

    def long(agent):
        calls.append(agent)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the evaluation goes on")
        return scores(agent)

    with pytest.raises(Interrupted):
        train(make(data), data, tmp_path / "run", evaluate=long)
    train(make(data), data, tmp_path / "run", resume=True)
    assert differences(folder, tmp_path / "run") == []


class Torn(DQN):
    """DQN whose update is cut after the parameters have moved."""

    def update(self, batch, noise):
        metrics = super().update(batch, noise)
        if self.main.steps == 17:
            raise KeyboardInterrupt
        return metrics


def test_a_state_within_an_update_is_not_saved(whole, tmp_path, caplog):
    data, folder = whole
    with pytest.raises(KeyboardInterrupt):
        train(Torn(data.spec, **SMALL), data, tmp_path / "run")
    step = load(tmp_path / "run" / "checkpoint.pt")["step"]
    assert step < 17
    assert f"after 16 steps: the checkpoint is of step {step}" in caplog.text
    train(make(data), data, tmp_path / "run", resume=True)
    assert differences(folder, tmp_path / "run") == []


def test_a_training_killed_before_its_first_checkpoint_starts_over(whole, tmp_path, caplog):
    data, folder = whole
    train(make(data), data, tmp_path / "run", steps=6)
    for path in (tmp_path / "run").glob("checkpoint*.pt"):
        path.unlink()
    # As if there were more steps to come when it was killed.
    runs = tmp_path / "run" / "runs.json"
    runs.write_text(runs.read_text().replace('"steps": 6', f'"steps": {END}'))

    train(make(data), data, tmp_path / "run", resume=True)
    assert "holds no checkpoint, so the training starts over" in caplog.text
    assert differences(folder, tmp_path / "run") == []


def test_a_whole_record_without_a_checkpoint_is_not_thrown_away(whole, tmp_path):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run").glob("checkpoint*.pt"):
        path.unlink()
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match="holds a whole record, but no checkpoint"):
        train(make(data), data, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


# --- refused


def scaled(data):
    return Dataset.from_arrays(
        data.obs, data.action, 2 * data.reward, data.terminated, data.truncated, n_actions=3
    )


CHANGES = {
    "agent": ({"agent": BC}, r"agent\.name = DQN -> BC"),
    "gamma": ({"gamma": 0.5}, r"agent\.gamma = 0\.99 -> 0\.5"),
    "hidden": ({"hidden": (9,)}, r"agent\.hidden = \[8\] -> \[9\]"),
    "optimizer": ({"optimizer": "sgd"}, r"agent\.optimizer"),
    "regularizer": ({"regularizers": {"dr3": 0.1}}, r"agent\.regularizers\.dr3 = unset -> 0\.1"),
    "seeds": ({"seeds": 2}, r"seeds = \[0\] -> \[0, 1\]"),
    "variants": ({"variants": {"a": {"lr": 0.1}}}, r"variants\.a\.lr = unset -> 0\.1"),
    "data": ({"data": scaled}, r"data\.reward = float32 \[60\] \w+ -> float32 \[60\] \w+"),
    "probe": ({"probe_size": 7}, r"probe_size = 0 -> 7"),
    "compile": ({"compile": True}, r"compile = False -> True"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_what_differs_is_refused_with_old_and_new_and_changes_no_file(
    whole, tmp_path, change, message
):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    before = contents(tmp_path / "run")

    change = dict(change)
    data = change.pop("data", lambda data: data)(data)
    options = {name: change.pop(name) for name in ("probe_size", "compile") if name in change}
    cls = change.pop("agent", DQN)
    small = {name: value for name, value in SMALL.items() if cls is DQN or name != "target_period"}
    agent = cls(data.spec, **{**small, **change})
    with pytest.raises(InputError, match=message) as caught:
        train(agent, data, tmp_path / "run", steps=30, resume=True, **options)
    assert "--fork NEW" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "run") == before


def test_all_that_differs_is_listed_at_once(whole, tmp_path):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    agent = make(data, lr=0.1, tau=0.5, seeds=[3])
    listed = r"agent\.tau = 1\.0 -> 0\.5; agent\.lr = 0\.\d+ -> 0\.1; seeds = \[0\] -> \[3\]; "
    with pytest.raises(InputError, match=listed):
        train(agent, data, tmp_path / "run", resume=True)


def test_what_a_training_is_made_with_is_stored_without_objects():
    values = {"a": (1, np.float32(0.5)), "b": {"c": object(), "d": datetime.date(2026, 1, 1)}}
    assert plain(values) == {"a": [1, 0.5], "b": {"c": "object", "d": "date"}}


def test_fewer_steps_than_are_done_are_refused(whole, tmp_path):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    with pytest.raises(InputError, match=f"steps = 9: expected at least {END}, the step of"):
        train(make(data), data, tmp_path / "run", steps=9, resume=True)


def test_intervals_may_change(whole, tmp_path):
    data, _ = whole
    train(make(data), data, tmp_path / "run", steps=10)
    options = {"log_every": 4, "probe_every": 0, "eval_every": 0, "checkpoint_every": 0}
    history = train(make(data), data, tmp_path / "run", resume=True, **options)
    assert history.get("loss/td")[0].tolist() == [5, 12, 16, 20, 24]


def test_a_checkpoint_without_what_a_resume_needs_says_so(whole, tmp_path):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["training"]
    torch.save({**content, "format": 2}, path)
    with pytest.raises(InputError, match=r"written by an older version.*--fork NEW"):
        train(make(data), data, tmp_path / "run", resume=True)


# --- damaged checkpoints


def damage(path):
    """Flip a bit of a weight in a checkpoint."""
    weight = load(path)["state"]["q"]["online"]["head.weight"]
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_the_checkpoint_before_is_used_where_the_last_is_damaged(whole, tmp_path, caplog):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoint.pt")
    train(make(data), data, tmp_path / "run", resume=True)
    assert "the one before it is taken, checkpoint.previous.pt" in caplog.text
    assert differences(folder, tmp_path / "run") == []


def test_damage_of_both_checkpoints_is_one_line(whole, tmp_path):
    data, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoint.pt")
    damage(tmp_path / "run" / "checkpoint.previous.pt")
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged: .* does not fit its checksum"):
        train(make(data), data, tmp_path / "run", resume=True)


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(whole, tmp_path):
    data, _ = whole
    path = save(tmp_path / "checkpoint.pt", make(data), 1)
    expected, content = load(path), path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.integers(len(content), size=150):
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            found = load(path)
        except InputError:
            refused += 1
            continue
        parameters = zip(
            expected["state"]["q"]["online"].values(), found["state"]["q"]["online"].values()
        )
        assert all(torch.equal(*pair) for pair in parameters)
        assert found["config"] == expected["config"]
    assert refused > 50


# --- the best, and forks


def test_the_checkpoint_of_the_best_evaluation_is_kept(whole, tmp_path):
    data, _ = whole
    returns = iter([9.0, 1.0, 3.0, 2.0, np.nan, 3.0, 1.0])

    def evaluate(agent):
        return {"eval/return": [next(returns)]}

    train(make(data), data, tmp_path / "run", evaluate=evaluate)
    assert load(tmp_path / "run" / "checkpoint.best.pt")["step"] == 8
    assert load(tmp_path / "run" / "checkpoint.pt")["step"] == END


def test_a_fork_goes_on_under_changed_options_and_records_its_parent(whole, tmp_path):
    data, folder = whole
    before = contents(folder)
    new = tmp_path / "new"
    history = train(make(data, lr=0.1), data, new, steps=30, resume=folder)
    assert contents(folder) == before
    assert history.steps[0] == END
    assert history.steps[-1] == 30

    assert history.config["lr"] == 0.1
    parent = load(new / "checkpoint.pt")["training"]["parent"]
    assert parent["checkpoint"] == str(folder / "checkpoint.pt")
    assert parent["step"] == END
    assert any(line.startswith("agent.lr = ") for line in parent["changes"])

    # What was forked is resumed as any other, and remembers its parent.
    train(make(data, lr=0.1), data, new, steps=35, resume=True)
    assert load(new / "checkpoint.pt")["training"]["parent"] == parent
    assert read_metrics(new).parent == parent


def test_a_fork_that_lost_its_checkpoint_does_not_start_over(whole, tmp_path):
    data, folder = whole
    new = tmp_path / "new"
    train(make(data, lr=0.1), data, new, steps=25, resume=folder)
    for path in new.glob("checkpoint*.pt"):
        path.unlink()
    with pytest.raises(InputError, match="continues another training, but holds no checkpoint"):
        train(make(data, lr=0.1), data, new, steps=30, resume=True)


def test_a_fork_has_a_checkpoint_before_its_first_step(whole, tmp_path, monkeypatch):
    data, folder = whole
    monkeypatch.setattr(Loop, "run", lambda *args: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr("rlop.training.session.final_scores", lambda history: {})
    new = tmp_path / "new"
    train(make(data, lr=0.1), data, new, steps=25, resume=folder)
    assert load(new / "checkpoint.previous.pt")["step"] == END


def test_a_fork_without_changes_gives_the_same_parameters(whole, tmp_path):
    data, folder = whole
    train(make(data), data, tmp_path / "half", steps=11)
    train(make(data), data, tmp_path / "fork", resume=tmp_path / "half")
    assert not {"state", "streams"} & set(differences(folder, tmp_path / "fork"))


def test_a_fork_of_a_state_that_does_not_fit_is_one_line(whole, tmp_path):
    data, folder = whole
    with pytest.raises(InputError, match="damaged, or of other settings"):
        train(make(data, hidden=(9,)), data, tmp_path / "new", steps=30, resume=folder)
    assert not (tmp_path / "new").exists()
