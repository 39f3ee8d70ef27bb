"""D4RL's table of data sets and reference scores."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import normalized_score
from rlop.data.scores import ENVIRONMENTS, find_scores, reference_scores, source_of, sources
from rlop.types import InputError

# Return of a random and of an expert policy, copied from `REF_MIN_SCORE` and `REF_MAX_SCORE` in
# d4rl/infos.py of D4RL 1.1, one data set of each environment.
REFERENCES = {
    "halfcheetah-medium-v2": (-280.178953, 12135.0),
    "walker2d-medium-v2": (1.629008, 4592.3),
    "hopper-medium-v2": (-20.272305, 3234.3),
    "ant-medium-v2": (-325.6, 3879.7),
    "pen-human-v1": (96.262799, 3076.8331017826877),
    "hammer-human-v1": (-274.856578, 12794.134825156867),
    "relocate-human-v1": (-6.425911, 4233.877797728884),
    "door-human-v1": (-56.512833, 2880.5693087298737),
    "antmaze-umaze-v2": (0.0, 1.0),
    "kitchen-mixed-v0": (0.0, 4.0),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-medium-v1": (13.13, 277.39),
    "maze2d-large-v1": (6.7, 273.99),
}
# Gymnasium's environments -> the data set whose references they share.
OF_ENVIRONMENT = {
    "HalfCheetah": "halfcheetah-medium-v2",
    "Hopper": "hopper-medium-v2",
    "Walker2d": "walker2d-medium-v2",
    "Ant": "ant-medium-v2",
    "AdroitHandDoor": "door-human-v1",
    "AdroitHandHammer": "hammer-human-v1",
    "AdroitHandPen": "pen-human-v1",
    "AdroitHandRelocate": "relocate-human-v1",
}
SCORED = sorted(name for name, source in sources().items() if source.scores)


def test_the_table_is_whole():
    assert len(sources()) == 155
    assert len(SCORED) == 147
    assert len({source.url for source in sources().values()}) == 155
    for source in sources().values():
        assert source.url.startswith("http://rail.eecs.berkeley.edu/")
        assert source.url.endswith(".hdf5")
    for name in SCORED:
        low, high = sources()[name].scores
        assert low < high


def test_the_table_is_d4rls(shared_data):
    theirs = json.loads((shared_data / "d4rl_ref_scores.json").read_text())
    assert {name: source.url for name, source in sources().items()} == theirs["dataset_urls"]
    for place, key in enumerate(("ref_min_score", "ref_max_score")):
        assert {name: sources()[name].scores[place] for name in SCORED} == theirs[key]


@pytest.mark.parametrize("name", REFERENCES)
def test_references_are_those_of_d4rl(name):
    assert reference_scores(name) == reference_scores(f"d4rl:{name}") == REFERENCES[name]


@pytest.mark.parametrize("env", OF_ENVIRONMENT)
def test_an_environment_has_the_references_of_its_data(env):
    assert set(OF_ENVIRONMENT) == set(ENVIRONMENTS)
    for version in (3, 4, 5):
        assert reference_scores(f"{env}-v{version}") == REFERENCES[OF_ENVIRONMENT[env]]


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Hopper", "hopper", "AdroitHandDoorSparse-v1", "", "carla-town-full-v0"]
)
def test_names_without_references(name):
    assert find_scores(name) is None


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("hopper-medium-v0", 1000),
        ("antmaze-umaze-diverse-v2", 700),
        ("antmaze-large-play-v0", 1000),
        ("kitchen-mixed-v0", 280),
        ("pen-human-v1", 100),
        ("door-cloned-v0", 200),
        ("maze2d-open-dense-v0", 150),
        ("maze2d-umaze-v1", 300),
        ("maze2d-eval-large-dense-v1", 800),
        ("minigrid-fourrooms-v0", 50),
        ("carla-lane-v0", 250),
        ("flow-merge-random-v0", 750),
    ],
)
def test_step_limits(name, limit):
    assert source_of(name).limit == source_of(f"d4rl:{name}").limit == limit


def test_normalized_score_by_hand():
    returns = [-20.272305, 3234.3, 1607.0138475]
    np.testing.assert_allclose(normalized_score(returns, "hopper-medium-v2"), [0, 100, 50], atol=1e-9)
    assert normalized_score(12135.0, "halfcheetah-random-v0") == pytest.approx(100)
    assert normalized_score(np.float32(4.0), "d4rl:kitchen-mixed-v0") == 100
    assert normalized_score(np.zeros((2, 3)), "antmaze-large-play-v2").shape == (2, 3)


@given(st.floats(-1e6, 1e6), st.sampled_from(SCORED))
def test_normalized_score_is_undone(value, name):
    low, high = reference_scores(name)
    score = normalized_score(value, name)
    assert low + score / 100 * (high - low) == pytest.approx(value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("task", ["random", "medium", "expert", "medium-replay", "medium-expert"])
def test_versions_share_their_references(task):
    for version in (0, 1, 2):
        assert reference_scores(f"walker2d-{task}-v{version}") == REFERENCES["walker2d-medium-v2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hopper-medum-v2",
            r"^'hopper-medum-v2': no reference scores, did you mean 'hopper-medium-v2'\?$",
        ),
        ("d4rl:antmaze-umaze-v9", r"did you mean 'antmaze-umaze-v[02]'"),
        ("Hoper-v4", r"did you mean 'Hopper-v4'"),
        ("carla-town-full-v0", r"^'carla-town-full-v0': D4RL has no reference scores for it$"),
        ("maze2d-eval-umaze-v1", r"D4RL has no reference scores"),
        ("zzz", r"^'zzz': no reference scores$"),
    ],
)
def test_a_name_without_references_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        normalized_score(1.0, name)


def test_an_unknown_data_set_is_refused():
    hint = r"^'walker-medium-v2': no such D4RL data set, did you mean 'walker2d-medium-v2'"
    with pytest.raises(InputError, match=hint):
        source_of("walker-medium-v2")


@pytest.mark.parametrize("table", ["atari.json", "d4rl.json"])
def test_tables_stand_in_the_package(table):
    assert files("rlop.data").joinpath(table).is_file()
