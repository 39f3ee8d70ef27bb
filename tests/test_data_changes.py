"""What was done to the data stands in the checkpoint, and `rlop info CHECKPOINT` says it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.data import make
from rlop.agents import BC

import rlop
from rlop.cli import main
from rlop.data import Dataset, mix
from rlop.data.transforms import TRANSFORMS, normalize_obs, scale_reward, transform
from rlop.training.checkpoint import load_agent, save
from rlop.types import InputError


def pushes(native=False):
    """Continuous actions, in [-1, 1] or in [0, 4]."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(21, 2)).astype(np.float32)
    action = rng.uniform(-1, 1, (20, 1)).astype(np.float32)
    end = np.arange(20) % 5 == 4
    made = Dataset.from_arrays(
        obs[:-1], 2 * action + 2 if native else action, end, end, end & False, obs[1:]
    )
    return replace(made, name="pushes")


def frames():
    obs = np.zeros((6, 4, 4, 3), np.uint8)
    end = np.arange(6) == 5
    return Dataset.from_arrays(obs, np.arange(6) % 2, end, end, end & False, obs)


def twice(obs, action, next_obs):
    return 2 * obs[:, 0]


# transform -> data, options, and what is recorded
ROWS = {
    "normalize_obs": (pushes, {}, "normalize_obs(eps=0.001)"),
    "scale_reward": (pushes, {"scale": 2.0, "shift": -1}, "scale_reward(scale=2, shift=-1)"),
    "scale_reward_by_return_range": (
        lambda: make((3, 2), [True, True]),
        {},
        "scale_reward_by_return_range()",
    ),
    "antmaze_reward": (pushes, {"convention": "iql"}, "antmaze_reward(convention=iql)"),
    "relabel": (
        pushes,
        {"function": f"{__name__}:twice"},
        f"relabel(function={__name__}:twice)",
    ),
    "filter": (
        pushes,
        {"min_return": 0.5, "max_length": 9},
        "filter_episodes(min_return=0.5, max_length=9)",
    ),
    "top_returns": (pushes, {"fraction": 0.5}, "top_returns(fraction=0.5)"),
    "subsample": (pushes, {"n": 2, "seed": 3}, "subsample(n=2, seed=3)"),
    "clip_actions": (pushes, {}, "clip_actions()"),
    "scale_actions": (
        lambda: pushes(native=True),
        {"low": [0], "high": 4},
        "scale_actions(low=0, high=4)",
    ),
    "transpose": (frames, {"axes": [2, 0, 1]}, "transpose(axes=[2, 0, 1])"),
}


def test_every_transform_has_its_row():
    assert ROWS.keys() == TRANSFORMS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_a_transform_stands_in_the_checkpoint(name, tmp_path, capsys):
    make_data, options, record = ROWS[name]
    data = transform(make_data(), {name: options})
    assert data.spec.changes == (record,)

    path = save(tmp_path / "checkpoint.pt", BC(data.spec, hidden=(4,)), step=7)
    agent, _ = load_agent(path)
    assert agent.spec == data.spec

    for named in (path, tmp_path):
        assert main(["info", str(named)]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[0] == f"{path}: BC at step 7"
        assert printed[-2:] == ["changes of the data:", f"  {record}"]


def test_a_mixture_stands_in_the_checkpoint(tmp_path):
    low, high = pushes(), scale_reward(replace(pushes(), name="others"), 2)
    data = transform(mix([low, high], [1, 2]), {"clip_actions": {"limit": 0.5}})
    agent = BC(data.spec, hidden=(4,), batch_size=8)
    rlop.train(agent, data, 2, logdir=tmp_path)
    loaded, _ = load_agent(tmp_path / "checkpoint.pt")
    assert loaded.spec.changes == (
        "mix(1 of pushes, 2 of others+reward*2+0)",
        "clip_actions(limit=0.5)",
    )


def test_info_says_what_stands_between_environment_and_agent(tmp_path, capsys):
    data = normalize_obs(transform(pushes(native=True), {"scale_actions": {"low": 0, "high": 4}}))
    save(tmp_path / "x.pt", BC(data[0].spec, hidden=(4,), seeds=[3, 5]), step=0)
    assert main(["info", str(tmp_path / "x.pt")]) == 0
    printed = capsys.readouterr().out
    assert "seeds: 3, 5\n" in printed
    assert "observations: each entry minus a mean, divided by a divisor\n" in printed
    assert "actions: -1 and 1 are [0.0] and [4.0] of the environment\n" in printed
    assert printed.index("scale_actions(low=0, high=4)") < printed.index("normalize_obs(eps=0.001)")


def test_data_as_they_were_read_have_no_changes(tmp_path, capsys):
    save(tmp_path / "x.pt", BC(pushes().spec, hidden=(4,)), step=0)
    assert main(["info", str(tmp_path / "x.pt")]) == 0
    assert capsys.readouterr().out.endswith("changes of the data: none\n")


def test_what_is_no_checkpoint_is_one_line(tmp_path, capsys):
    (tmp_path / "x.pt").write_text("no")
    assert main(["info", str(tmp_path / "x.pt")]) == 2
    assert "not a checkpoint of rlop" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "absent.pt")]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


def test_changed_observations_are_not_written_without_their_record(tmp_path):
    from rlop.collect.convert import convert

    for data in (normalize_obs(pushes())[0], transform(frames(), {"transpose": {}})):
        with pytest.raises(InputError, match="no format holds how its observations were"):
            convert(data, tmp_path / "x.hdf5")
