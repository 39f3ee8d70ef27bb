from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import normalized_score
from rlop.data.scores import ENVIRONMENTS, find_scores, reference_scores, source_of, sources
from rlop.types import InputError


def test_the_table_is_whole():
    assert len(sources()) == 155
    assert sum(source.scores is not None for source in sources().values()) == 147
    assert all(
        source.url.startswith("http://rail.eecs.berkeley.edu/") for source in sources().values()
    )
    assert all(source.url.endswith(".hdf5") for source in sources().values())
    assert len({source.url for source in sources().values()}) == 155
    assert all(
        source.scores is None or source.scores[0] < source.scores[1]
        for source in sources().values()
    )


def test_the_table_is_d4rls(shared_data):
    theirs = json.loads((shared_data / "d4rl_ref_scores.json").read_text())
    assert {name: source.url for name, source in sources().items()} == theirs["dataset_urls"]
    for place, key in enumerate(("ref_min_score", "ref_max_score")):
        ours = {name: source.scores[place] for name, source in sources().items() if source.scores}
        assert ours == theirs[key]


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
    assert reference_scores("hopper-medium-v2") == (-20.272305, 3234.3)
    np.testing.assert_allclose(
        normalized_score([-20.272305, 3234.3, 1607.0138475], "hopper-medium-v2"),
        [0, 100, 50],
        atol=1e-9,
    )
    assert normalized_score(12135.0, "halfcheetah-random-v0") == pytest.approx(100)
    assert normalized_score(np.float32(4.0), "d4rl:kitchen-mixed-v0") == 100
    assert normalized_score(np.zeros((2, 3)), "antmaze-large-play-v2").shape == (2, 3)


@given(
    st.floats(-1e6, 1e6), st.sampled_from(sorted(name for name, s in sources().items() if s.scores))
)
def test_normalized_score_is_undone(value, name):
    low, high = reference_scores(name)
    score = normalized_score(value, name)
    assert low + score / 100 * (high - low) == pytest.approx(value, rel=1e-9, abs=1e-6)


def test_versions_share_their_references():
    for task in ("random", "medium", "expert", "medium-replay", "medium-expert"):
        assert len({reference_scores(f"walker2d-{task}-v{version}") for version in (0, 1, 2)}) == 1
    assert reference_scores("door-human-v0") == reference_scores("door-expert-v1")


def test_environments_by_their_gymnasium_id():
    for env_id, name in (
        ("Hopper-v4", "hopper-medium-v2"),
        ("Hopper-v5", "hopper-expert-v0"),
        ("Ant-v3", "ant-random-v1"),
        ("AdroitHandPen-v1", "pen-human-v1"),
    ):
        assert reference_scores(env_id) == reference_scores(name)
    assert all(find_scores(f"{env}-v4") for env in ENVIRONMENTS)
    for unknown in ("CartPole-v1", "Hopper", "hopper", "AdroitHandDoorSparse-v1", ""):
        assert find_scores(unknown) is None


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
def test_unknown_names(name, message):
    with pytest.raises(InputError, match=message):
        normalized_score(1.0, name)


def test_unknown_data_set():
    with pytest.raises(
        InputError,
        match=r"^'walker-medium-v2': no such D4RL data set, did you mean 'walker2d-medium-v2'",
    ):
        source_of("walker-medium-v2")


def test_the_tables_are_shipped():
    project = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
    assert '"rlop.data" = ["atari.json", "d4rl.json"]' in project
