"""`rlop report --select`: rankings by hand, and on small trainings."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from rlop.agents import BC, DQN, NeuralTD

import rlop
from rlop.cli import main
from rlop.data.transforms import normalize_obs
from rlop.logs.history import read_metrics
from rlop.ope.candidates import score_name, shared_data, trainings
from rlop.ope.rankings import judge, rank_interval
from rlop.ope.selection import as_text, select, td_error
from rlop.report.titles import HIGHER, LOWER
from rlop.types import InputError

TRAINED_ON = "gridworld?size=3&steps=200&epsilon=0.6"
OTHER = f"{TRAINED_ON}&data_seed=5"
FQE = {"steps": 4, "hidden": (8,), "batch_size": 8}
SMALL = {"hidden": (8,), "batch_size": 8}


# ---- rankings


def test_regret_and_correlation_by_hand():
    truth = np.array([1.0, 5.0, 3.0, 4.0])
    found = judge(np.array([10.0, 20.0, 40.0, 30.0]), truth, HIGHER)
    assert found.picks == [2]
    assert found.regret == 2
    # Ranks 1 2 4 3 and 1 4 2 3: 1 - 6 (0 + 4 + 4 + 0) / (4 15).
    assert found.correlation == pytest.approx(0.2)
    assert found.pairs == 4

    errors = judge(-np.array([10.0, 20.0, 40.0, 30.0]), truth, LOWER)
    assert errors == found


def test_equal_values_are_all_picked():
    found = judge(np.array([2.0, 2.0, 1.0]), np.array([0.0, 4.0, 8.0]), HIGHER)
    assert found.picks == [0, 1]
    assert found.regret == 6
    assert math.isnan(found.low)  # three pairs


def test_a_candidate_without_value_or_score_counts_in_neither():
    values = np.array([np.nan, 3.0, 2.0, np.inf])
    truth = np.array([9.0, 1.0, 2.0, 9.0])
    found = judge(values, truth, HIGHER)
    assert (found.picks, found.regret, found.pairs) == ([1], 1.0, 2)
    alone = judge(values, np.full(4, np.nan), HIGHER)
    assert alone.picks == [1]
    assert math.isnan(alone.regret)
    assert judge(np.full(4, np.nan), truth, LOWER).picks == []


def test_the_interval_of_a_rank_correlation_by_hand():
    low, high = rank_interval(0.5, 12)
    half = 1.959964 * math.sqrt(1.125 / 9)
    assert low == pytest.approx(math.tanh(math.log(3) / 2 - half))
    assert high == pytest.approx(math.tanh(math.log(3) / 2 + half))
    assert rank_interval(1.0, 9) == (1.0, 1.0)
    assert math.isnan(rank_interval(0.5, 3)[0])


def test_the_interval_holds_the_correlation_of_normal_pairs():
    rng = np.random.default_rng(0)
    r = 2 * math.sin(math.pi * 0.6 / 6)  # Pearson's, where Spearman's is .6
    held = []
    for _ in range(300):
        x, noise = rng.normal(size=(2, 20))
        y = r * x + math.sqrt(1 - r**2) * noise
        found = judge(x, y, HIGHER)
        held.append(found.low < 0.6 < found.high)
    assert 0.9 < np.mean(held) < 0.99


# ---- checkpoints


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of DQN on normalized observations and scaled rewards, BC, and one that acts not."""
    folder = tmp_path_factory.mktemp("select")
    data = rlop.load_dataset(TRAINED_ON)
    schedule = {"log_every": 2, "probe_every": 0, "progress": False, "compile": False}
    score = {"evaluate": data.spec.env_id, "eval_every": 2}

    normal, _, _ = normalize_obs(data)
    dqn = DQN(normal.spec, seeds=2, gamma=0.9, **SMALL)
    rlop.train(dqn, normal, 4, logdir=folder / "dqn", **schedule, **score)
    (folder / "dqn" / "config.yaml").write_text(
        f"data: {TRAINED_ON}\ntransforms:\n  normalize_obs: {{}}\n  scale_reward: {{scale: 10}}\n"
    )
    rlop.train(BC(data.spec, **SMALL), data, 4, logdir=folder / "bc", **schedule, **score)
    rlop.train(NeuralTD(data.spec, batch_size=8), data, 4, logdir=folder / "ntd", **schedule)
    return folder


def test_every_ranking_is_of_every_candidate(runs):
    found = select([str(runs)], OTHER, **FQE)
    assert found.labels == [
        str(runs / "bc"),
        f"{runs / 'dqn'}: seed=0",
        f"{runs / 'dqn'}: seed=1",
    ]
    assert found.steps == [4, 4, 4]
    assert found.gamma == pytest.approx(0.9)  # BC has none
    assert found.score == "eval/return"
    assert np.isfinite(found.truth).all()
    assert np.isfinite(found.values["fqe"]).all()
    assert np.isnan(found.values["td_error"]).tolist() == [True, False, False]
    assert np.isfinite(found.values["rank/srank"]).all()
    assert "loss/validation" not in found.values
    (note,) = found.notes
    assert note.startswith(f"{runs / 'ntd'}: left out, ")


def test_a_candidate_is_judged_by_its_own_rewards_and_normalization(runs):
    (one,) = trainings([str(runs / "dqn")])
    data = shared_data(OTHER, [one])
    own = one.own(data)
    assert own.spec.obs_normalizer == one.agent.spec.obs_normalizer
    np.testing.assert_allclose(own.reward, 10 * data.reward)
    mean, divisor = map(np.array, one.agent.spec.obs_normalizer)
    np.testing.assert_allclose(own.obs, (data.obs - mean) / divisor, rtol=1e-5, atol=1e-6)

    chances = one.policies()(data.obs)
    obs = torch.from_numpy(own.obs).expand(2, *own.obs.shape)
    assert (chances.argmax(-1) == one.agent.q_values(obs).argmax(-1).numpy()).all()


def test_td_errors_are_those_of_the_agent(runs):
    (one,) = trainings([str(runs / "dqn" / "checkpoint.pt")])
    data = one.own(shared_data(OTHER, [one]))
    found = td_error(one, data)

    obs, following = (torch.from_numpy(x).expand(2, *x.shape) for x in (data.obs, data.next_obs))
    with torch.no_grad():
        q = one.agent.main.online(obs)[1].numpy()
        then = one.agent.main.target(following)[1].numpy().max(-1)
    taken = q[:, np.arange(len(data)), data.action]
    target = data.reward + 0.9 * then * ~data.terminated
    np.testing.assert_allclose(found, ((taken - target) ** 2).mean(1), rtol=1e-4)


def test_scores_are_those_up_to_the_checkpoint(runs):
    both = trainings([str(runs / "bc"), str(runs / "dqn"), str(runs / "bc" / "checkpoint.pt")])
    assert [len(one.labels) for one in both] == [1, 2]  # the same checkpoint once
    assert score_name(both) == "eval/return"
    history = read_metrics(runs / "dqn")
    steps, values = history.get("eval/return")
    assert (both[1].score("eval/return") == values[steps == 4][0]).all()
    early = dataclasses.replace(both[1], step=2)
    assert (early.score("eval/return") == values[steps == 2][0]).all()
    assert np.isnan(both[1].score("eval/d4rl_score")).all()
    assert np.isnan(both[1].logged("loss/validation")).all()
    logged = history.get("loss/td")
    assert (early.logged("loss/td") == logged[1][logged[0] <= 2][-1]).all()


# ---- the command


def test_the_command_prints_candidates_and_rankings(runs, capsys):
    options = ["--fqe", "steps=4", "hidden=[8]", "batch_size=8"]
    assert main(["report", str(runs), "--select", "--data", TRAINED_ON, *options]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith("3 checkpoints on 200 transitions; FQE is the discounted value at")
    assert lines[2].split()[:4] == ["checkpoint", "step", "FQE", "TD"]
    values = [float(line.split("  ")[-1].strip()) for line in lines[3:6]]
    assert len(values) == 3
    assert any(line.startswith("FQE ") and "higher" in line for line in lines)
    assert f"{runs / 'dqn'}: was trained on these data, so that none are held out" in lines


def test_without_evaluations_nothing_is_said_of_the_truth(runs):
    found = select([str(runs / "dqn")], OTHER, gamma=0.5, **FQE)
    assert found.gamma == 0.5
    silent = dataclasses.replace(found, score=None, truth=np.full(2, np.nan))
    text = as_text(silent)
    assert "regret" not in text
    assert text.endswith("no evaluation is on record: nothing says which ranking is right")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "--select: expected RUNS, and --data D"),
        (["--data", OTHER, "--fqe", "steps"], "--fqe steps: expected KEY=VALUE"),
        (["--data", OTHER, "--fqe", "gamma=0.5"], "--fqe gamma: expected --gamma"),
        (["--data", OTHER, "--fqe", "stps=5"], "unknown key 'stps', did you mean 'steps'?"),
        (["--data", "gridworld?size=4"], "is not what the agent was made for"),
    ],
)
def test_mistakes_are_one_line(runs, capsys, options, expected):
    assert main(["report", str(runs / "bc"), "--select", *options, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_training_without_a_checkpoint_is_left_out(runs, tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    for name in ("metrics.jsonl", "runs.json"):
        (folder / name).write_bytes((runs / "bc" / name).read_bytes())
    both = trainings([str(folder), str(runs / "bc")])
    assert [one.name for one in both] == [str(runs / "bc")]
    with pytest.raises(InputError, match=r"begun: found no checkpoint\.pt, expected one"):
        trainings([str(folder)])


def test_trainings_that_read_other_data_are_refused(runs):
    both = trainings([str(runs / "bc"), str(runs / "dqn")])
    both[0] = dataclasses.replace(both[0], transforms={"clip_actions": {}})
    with pytest.raises(InputError, match="other transforms of actions or axes"):
        shared_data(OTHER, both)
    with pytest.raises(InputError, match="no agent that acts"):
        select([str(runs / "ntd")], OTHER, **FQE)
