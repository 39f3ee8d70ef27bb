"""From a log folder to a policy: which run, which score, which environment; `rlop export`."""

from __future__ import annotations

import json
import shutil

import gymnasium
import numpy as np
import pytest
import torch
from rlop.agents import DQN

import rlop
from rlop.cli import main
from rlop.deploy.load import last_evaluation, record_of
from rlop.logs.history import read_metrics
from rlop.types import InputError

OBS = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)


def trained(folder, data, returns=((1.0, 5.0, 3.0), (4.0, 2.0, 3.5)), **options):
    """Train three runs of DQN for 8 steps, with given returns at steps 0, 4, 8, ..."""
    scores = iter(returns)
    agent = DQN(data.spec, hidden=(8,), batch_size=8, seeds=3, **options)
    rlop.train(
        agent,
        data,
        8,
        logdir=folder,
        evaluate=lambda agent: {"eval/return": np.array(next(scores))},
        log_every=4,
        probe_every=0,
        eval_every=8,
        progress=False,
    )
    return agent


def same(policy, agent, run):
    return np.array_equal(policy.q_values(OBS), agent.policy(run).q_values(OBS))


def test_the_best_run_is_that_of_the_last_evaluation_and_is_said(tiny, tmp_path, caplog):
    caplog.set_level("INFO")
    agent = trained(tmp_path, tiny)
    policy = rlop.load_policy(tmp_path)
    assert same(policy, agent, 0)
    assert "run seed=0: return 4 at step 8, the best" in caplog.text
    assert policy.about["score"]["choice"] == "the best of 3 runs by this very score: biased upward"
    assert policy.about["score"]["eval/return over 3 seeds"] == (
        "3.16667, 95% interval 0.581094 to 5.75224"
    )
    assert policy.about["policy"]["step"] == 8
    assert policy.about["data"]["name"] == "arrays"


def test_of_a_damaged_last_checkpoint_the_one_before_is_taken(tiny, tmp_path, caplog):
    agent = trained(tmp_path, tiny)
    last = tmp_path / "checkpoint.pt"
    shutil.copyfile(last, tmp_path / "checkpoint.previous.pt")
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)

    assert same(rlop.load_policy(tmp_path), agent, 0)
    assert "checkpoint.pt: " in caplog.text
    assert "the one before it is taken, checkpoint.previous.pt" in caplog.text
    with pytest.raises(InputError, match=r"checkpoint\.pt: "):
        rlop.load_policy(last)
    last.unlink()
    assert same(rlop.load_policy(tmp_path), agent, 0)
    (tmp_path / "checkpoint.previous.pt").unlink()
    with pytest.raises(InputError, match=r"checkpoint\.pt: no such checkpoint"):
        rlop.load_policy(tmp_path)


def test_runs_are_chosen_by_index_and_label(tiny, tmp_path):
    agent = trained(tmp_path, tiny)
    for run in (1, "seed=1", np.int64(1)):
        policy = rlop.load_policy(tmp_path / "checkpoint.pt", run)
        assert same(policy, agent, 1)
        assert "choice" not in policy.about["score"]
    with pytest.raises(InputError, match="did you mean 'seed=2'"):
        rlop.load_policy(tmp_path, "sed=2")


def test_an_evaluation_after_the_checkpoint_does_not_count(tiny, tmp_path):
    agent = trained(tmp_path, tiny)
    history = read_metrics(tmp_path)
    assert last_evaluation(history, 8).step == 8
    before = last_evaluation(history, 7)
    assert before.step == 0
    assert before.scores["eval/return"].tolist() == [1, 5, 3]

    # The record of other runs says nothing of these.
    assert record_of(tmp_path, agent) is not None
    assert record_of(tmp_path, DQN(tiny.spec, hidden=(8,), seeds=2)) is None


def test_runs_that_broke_are_not_the_best(tiny, tmp_path):
    agent = trained(tmp_path, tiny, returns=((1, 2, 3), (np.nan, 1.0, np.nan)))
    assert same(rlop.load_policy(tmp_path), agent, 1)


@pytest.mark.parametrize("returns", [None, ((np.nan,) * 3,) * 2])
def test_without_an_evaluation_the_run_is_asked_for(returns, tiny, tmp_path):
    if returns is None:
        agent = trained(tmp_path, tiny)
        (tmp_path / "metrics.jsonl").unlink()
    else:
        agent = trained(tmp_path, tiny, returns=returns)
    expected = r"checkpoint.pt: no evaluation .* best of its 3 runs; expected run = 0 to 2, or a la"
    with pytest.raises(InputError, match=expected):
        rlop.load_policy(tmp_path)
    policy = rlop.load_policy(tmp_path, 2)
    assert same(policy, agent, 2)
    assert policy.about["score"] == {"evaluation": "none in the record"}


def test_a_single_run_needs_no_evaluation(tiny, tmp_path):
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8)
    rlop.train(agent, tiny, 2, logdir=tmp_path, probe_every=0, progress=False)
    assert same(rlop.load_policy(tmp_path), agent, 0)


def test_seeds_of_the_same_setting_make_the_interval(tiny, tmp_path):
    returns = ((0.0,) * 6, (1.0, 2.0, 3.0, 7.0, 8.0, 9.0))
    trained(tmp_path, tiny, returns, regularizers={"dr3": [0.0, 0.1]})
    score = rlop.load_policy(tmp_path).about["score"]
    assert score["eval/return"] == 9
    assert score["eval/return over 3 seeds"].startswith("8, 95% interval 5.51586 to 10.4841")


def test_what_cannot_be_loaded_is_one_line(tiny, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such checkpoint"):
        rlop.load_policy(tmp_path / "nowhere")
    trained(tmp_path, tiny)
    with pytest.raises(InputError, match="device = 'gpu': not available here"):
        rlop.load_policy(tmp_path, device="gpu")
    with pytest.raises(InputError, match="epsilon = 2"):
        rlop.load_policy(tmp_path, epsilon=2)
    with pytest.raises(InputError, match="env: found int"):
        rlop.load_policy(tmp_path, env=3)
    with pytest.raises(InputError, match="Pendulum-v1: observations"):
        rlop.load_policy(tmp_path, env="Pendulum-v1")


def test_loaded_policies_explore_and_name_themselves(tiny, tmp_path):
    agent = trained(tmp_path, tiny)
    policy = rlop.load_policy(tmp_path, 1, epsilon=1.0)
    many = np.repeat(OBS[:1], 600, 0)
    assert np.bincount(policy(many)).min() > 150
    assert len(np.unique(agent.policy(1)(many))) == 1
    assert repr(policy) == "Policy(agent=DQN, run=seed=1, seed=1, step=8)"


# ---- from the command line


@pytest.fixture
def configuration(tmp_path):
    """Write a configuration whose data name no environment, but which names one itself."""
    rows, rng = 300, np.random.default_rng(0)
    np.savez(
        tmp_path / "poles.npz",
        observations=rng.normal(size=(rows, 4)).astype(np.float32),
        actions=rng.integers(0, 2, rows),
        rewards=np.ones(rows),
        terminals=np.arange(rows) % 10 == 9,
        timeouts=np.zeros(rows, bool),
    )
    path = tmp_path / "poles.yaml"
    path.write_text(
        f"data: {tmp_path / 'poles.npz'}\nenv: CartPole-v1\nsteps: 4\nlog_every: 2\nseeds: 2\n"
        "probe_every: 0\neval_every: 4\neval_episodes: 3\nthreads: 1\ndevice: cpu\n"
        "agent: {name: BC, hidden: [8], batch_size: 8}\n"
    )
    return path


def test_a_configurations_own_environment_is_that_of_its_policy(configuration, tmp_path):
    folder = tmp_path / "log"
    assert main(["train", str(configuration), "--logdir", str(folder), "--quiet"]) == 0
    logged = read_metrics(folder).get("eval/return")[1][-1]
    policy = rlop.load_policy(folder, 1)
    with gymnasium.make("CartPole-v1") as env:
        assert policy.observation_space == env.observation_space
    evaluator = rlop.Evaluator("CartPole-v1", [1], 3)
    assert evaluator(policy)["eval/return"][0] == logged[1]


def test_rlop_export_writes_a_policy_and_its_card(configuration, tmp_path, capsys):
    folder, file = tmp_path / "log", tmp_path / "out" / "poles.pt2"
    assert main(["train", str(configuration), "--logdir", str(folder), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["export", str(folder), "--out", str(file), "--run", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{file}: Policy(agent=BC, run=seed=1")

    actions = torch.export.load(file).module()(torch.from_numpy(OBS)).numpy()
    assert np.array_equal(actions, rlop.load_policy(folder, 1)(OBS))
    text = file.with_suffix(".md").read_text()
    for line in ("- step: 4", "- env_id: CartPole-v1", "- eval/return over 2 seeds: "):
        assert line in text, line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such checkpoint"),
        (["log", "--run", "7"], "run = 7: expected 0 to 1"),
        (["log", "--run", "seed=9"], "run = 'seed=9': expected 0 to 1, or a label, did you mean"),
        (["log", "--out", "policy.zip"], "policy.zip: expected a file of kind"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    arguments, message, configuration, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(configuration), "--logdir", "log", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["export", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rlop: {message}")
    assert error.count("\n") == 1


def test_a_strangers_record_is_read_as_numbers_alone(tiny, tmp_path):
    trained(tmp_path, tiny)
    record = tmp_path / "metrics.jsonl"
    row = json.loads(record.read_text().splitlines()[-1])
    record.write_text(json.dumps({**row, "metrics": {"eval/return": ["a", "b", "c"]}}) + "\n")
    with pytest.raises(InputError, match=r"metrics.jsonl: line 1 is damaged"):
        rlop.load_policy(tmp_path)


def test_parts_of_a_checkpoint_are_given_as_to_load_agent(tiny, tmp_path):
    def small(ctx):
        return ctx.features.square().mean((-1, -2))

    regularizers = {"small": {"fn": small, "coef": 1.0}}
    agent = DQN(tiny.spec, hidden=(8,), batch_size=8, regularizers=regularizers)
    rlop.train(agent, tiny, 2, logdir=tmp_path, probe_every=0, progress=False)
    with pytest.raises(InputError, match="'small' was a function"):
        rlop.load_policy(tmp_path)
    policy = rlop.load_policy(tmp_path, parts={"small": small})
    assert np.array_equal(policy(OBS), agent.policy()(OBS))
