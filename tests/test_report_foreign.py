"""Records of d3rlpy, Weights & Biases and Stable-Baselines3 stand beside ours."""

import json

import numpy as np
import pytest
from helpers.report import record

from rlop.cli import main
from rlop.report.foreign import read_foreign
from rlop.report.study import gather
from rlop.types import InputError


def d3rlpy_folder(folder, returns=(1.0, 2.5)):
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps({"gamma": 0.99}))
    rows = [f"{epoch},{epoch * 100},{value}" for epoch, value in enumerate(returns, start=1)]
    (folder / "environment.csv").write_text("\n".join(rows) + "\n")
    (folder / "td_loss.csv").write_text("1,100,0.5\n2,200,nan\n")
    return folder


def monitor(file, episodes, began=10.0, env_id="CartPole-v1"):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ["#" + json.dumps({"t_start": began, "env_id": env_id}), "r,l,t"]
    lines += [f"{reward},{length},{after}" for reward, length, after in episodes]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_folder_of_d3rlpy(tmp_path):
    folder = d3rlpy_folder(tmp_path / "logs" / "CQL_seed2_20260101120000")
    study = gather([tmp_path / "logs"])
    history = study.histories[0]
    np.testing.assert_array_equal(history.get("eval/return")[0], [100, 200])
    np.testing.assert_array_equal(history.get("eval/return")[1][:, 0], [1.0, 2.5])
    assert np.isnan(history.get("loss/td")[1][1, 0])
    assert history.hparams == [{"seed": 2, "variant": "CQL"}]
    assert study.runs[0].folder == str(folder)
    assert "d3rlpy" in study.notes[0]


def test_monitor_files_of_one_training_are_put_in_the_order_of_time(tmp_path):
    folder = tmp_path / "dqn_1"
    monitor(folder / "0.monitor.csv", [(1, 10, 1.0), (5, 20, 9.0)])
    monitor(folder / "1.monitor.csv", [(3, 30, 2.0)])
    ((_, history, note),) = read_foreign(tmp_path)
    steps, values = history.get("eval/return")
    np.testing.assert_array_equal(steps, [10, 40, 60])
    np.testing.assert_allclose(values[:, 0], [1, 2, 3])  # means of all episodes so far
    assert history.config == {"env": "CartPole-v1"}
    assert "exploration" in note


def progress(file, rows, header="rollout/ep_rew_mean,time/fps,time/total_timesteps,train/loss"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_the_table_of_a_logger_has_evaluations_and_losses(tmp_path):
    header = "time/iterations,time/total_timesteps,rollout/ep_rew_mean,note,eval/mean_reward"
    header += ",train/loss,train/n_updates"
    rows = [
        "1,100,9.5,,,,",
        ",150,,,20.25,,",
        '2,200,11.0,"slow, but well",,0.5,40',
        "3,300,,,,nan,80",
    ]
    file = progress(tmp_path / "dqn_seed4" / "progress.csv", rows, header)
    for source in (file, tmp_path):
        ((_, history, note),) = read_foreign(source)
        assert history.labels == ["dqn_seed4"]
        assert history.hparams == [{"seed": 4, "variant": "dqn"}]
        names = ["eval/return", "loss/total", "rollout/return", "train/n_updates"]
        assert sorted(history.metrics) == names
        for name, steps, values in (
            ("eval/return", [150], [20.25]),
            ("rollout/return", [100, 200], [9.5, 11.0]),
            ("loss/total", [200, 300], [0.5, np.nan]),
        ):
            np.testing.assert_array_equal(history.get(name)[0], steps)
            np.testing.assert_array_equal(history.get(name)[1][:, 0], values)
        assert note == "logged by Stable-Baselines3"


def test_a_table_and_the_monitors_beside_it_are_one_training(tmp_path):
    monitor(tmp_path / "ppo" / "0.monitor.csv", [(1, 10, 1.0), (5, 20, 9.0)])
    progress(tmp_path / "ppo" / "progress.csv", ["2.5,900,64,0.1", "3.5,800,128,"])
    ((_, history, note),) = read_foreign(tmp_path)
    assert history.config == {"env": "CartPole-v1"}
    np.testing.assert_array_equal(history.get("eval/return")[0], [64, 128])
    np.testing.assert_array_equal(history.get("eval/return")[1][:, 0], [2.5, 3.5])
    np.testing.assert_array_equal(history.get("time/steps_per_s")[1][:, 0], [900, 800])
    assert "exploration" in note

    # Without returns in the table, those of the monitors remain.
    file = tmp_path / "ppo" / "progress.csv"
    progress(file, ["64,0.1", "128,0.2"], "time/total_timesteps,train/loss")
    ((_, history, _),) = read_foreign(tmp_path)
    np.testing.assert_array_equal(history.get("eval/return")[0], [10, 30])
    np.testing.assert_array_equal(history.get("loss/total")[0], [64, 128])


def test_a_table_of_the_same_name_of_another_program_is_left_alone(tmp_path):
    progress(tmp_path / "other" / "progress.csv", ["1,2"], "Epoch,AverageReturn")
    assert read_foreign(tmp_path) == []


def test_a_chart_of_weights_and_biases_has_a_run_per_column(tmp_path):
    file = tmp_path / "chart.csv"
    file.write_text(
        "Step,cql-hopper-s1 - d4rl_normalized_score,cql-hopper-s1 - d4rl_normalized_score__MIN,"
        "iql - hopper - eval_score\n"
        "0,1.5,1,\n"
        "1000,2.5,2,7\n"
    )
    study = gather([file])
    assert [history.labels for history in study.histories] == [["cql-hopper-s1"], ["iql - hopper"]]
    first, second = study.histories
    assert list(first.metrics) == ["eval/d4rl_score"]
    np.testing.assert_array_equal(first.get("eval/d4rl_score")[1][:, 0], [1.5, 2.5])
    np.testing.assert_array_equal(second.get("eval/return")[0], [1000])
    assert first.hparams == [{"seed": 1, "variant": "cql-hopper"}]


def test_the_history_of_one_run_may_have_columns_of_text(tmp_path):
    file = tmp_path / "run-3.csv"
    file.write_text("_step,_runtime,note,loss\n0,1.0,begin,3\n5,2.0,,2\n")
    ((_, history, _),) = read_foreign(file)
    assert list(history.metrics) == ["loss/total"]
    np.testing.assert_array_equal(history.get("loss/total")[1][:, 0], [3, 2])


def test_runs_of_others_stand_beside_ours(tmp_path):
    rows = [(step, {"eval/return": [step / 10, step / 20]}) for step in (0, 100)]
    record([{"seed": 0}, {"seed": 1}], rows, tmp_path / "ours", agent="DQN", data="a.hdf5")
    d3rlpy_folder(tmp_path / "theirs")
    study = gather([tmp_path])
    assert list(study.groups) == ["theirs", "DQN"]
    assert study.numbers("eval/return") == {0: 2.5, 1: 10.0, 2: 5.0}


def test_ours_on_different_data_stay_apart_where_others_name_an_environment_alone(tmp_path):
    for name in ("small", "large"):
        rows = [(0, {"eval/return": [1.0]}), (9, {"eval/return": [2.0]})]
        record([{"seed": 0}], rows, tmp_path / name, data=f"{name}.hdf5", env="CartPole-v1")
    monitor(tmp_path / "sb3" / "monitor.csv", [(1, 10, 1.0)])
    study = gather([tmp_path])
    assert study.tasks == ["CartPole-v1"]
    assert list(study.groups) == ["sb3", "data=large.hdf5", "data=small.hdf5"]
    assert study.notes[1:] == []


def damaged(tmp_path, name, text, extra=None):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    if extra:
        (file.parent / extra[0]).write_text(extra[1])
    return file


@pytest.mark.parametrize(
    ("name", "text", "extra", "message"),
    [
        ("a.csv", "", None, "found no column step, _step"),
        ("a.csv", "Step,r - m\n0,1,2\n", None, "line 2 has 3 cells, expected 2"),
        ("a.csv", "Step,r - m\n0,x\n", None, "line 2 has 'x', expected a number"),
        ("a.csv", "Step,r - m\n-1,2\n", None, "line 2 has the step '-1'"),
        ("a.csv", "Step,r - m\n1e400,2\n", None, "line 2 has the step '1e400'"),
        ("a.csv", "Step,r - m\n", None, "found no values"),
        ("a.csv", b"Step,\xff", None, "is no text"),
        ("a.monitor.csv", "r,l,t\n1,2,3\n", None, "expected a monitor file"),
        ("a.monitor.csv", '#{"t_start": 0}\nr,l,t\n1,2\n', None, "line 3 is damaged"),
        ("a.monitor.csv", '#{"t_start": 0}\nr,l,t\n', None, "without an episode"),
        ("a.monitor.csv", "#" + "[" * 100_000, None, "expected a monitor file"),
        ("progress.csv", "time/total_timesteps,a\n1\n", None, "line 2 has 1 cells, expected 2"),
        ("progress.csv", "time/total_timesteps,a\n,3\n", None, "line 2 has the step ''"),
        ("progress.csv", "time/total_timesteps,train/loss\n1,x\n", None, "line 2 has 'x'"),
        ("progress.csv", "time/total_timesteps,a\n", None, "found no values"),
        ("d/params.json", "[]", None, "expected d3rlpy's mapping"),
        ("d/params.json", "{}", None, "without a metric"),
        ("d/params.json", "{}", ("loss.csv", "1,2\n"), "line 1 is damaged, expected epoch"),
        ("d/params.json", "{}", ("loss.csv", "1,2,x\n"), "expected a number"),
    ],
)
def test_damaged_records_are_refused_in_one_line(tmp_path, name, text, extra, message, capsys):
    file = damaged(tmp_path, name, text, extra)
    source = file if file.suffix == ".csv" else tmp_path
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        gather([source])
    assert main(["report", str(source)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
