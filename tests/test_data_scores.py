"""D4RL's table of data sets and reference scores."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlop.data import human_normalized_score, normalized_score
from rlop.data.scores import ENVIRONMENTS, find_scores, reference_scores, source_of, sources
from rlop.types import InputError

# Names of data sets -> return of a random and of an expert policy, copied from `REF_MIN_SCORE` and
# `REF_MAX_SCORE` in d4rl/infos.py of D4RL 1.1.
REFERENCES = {
    r"ant-.*": (-325.6, 3879.7),
    r"antmaze-.*": (0.0, 1.0),
    r"bullet-ant-.*": (373.705955, 2650.495),
    r"bullet-halfcheetah-.*": (-1275.766996, 2381.6725),
    r"bullet-hopper-.*": (20.058972, 1441.8059623430963),
    r"bullet-maze2d-large-v0": (1.82, 285.92),
    r"bullet-maze2d-medium-v0": (14.87, 238.05),
    r"bullet-maze2d-open-v0": (8.75, 64.15),
    r"bullet-maze2d-umaze-v0": (32.46, 153.99),
    r"bullet-walker2d-.*": (16.523877, 1623.6476303317536),
    r"carla-lane-v0": (-0.8503839912088142, 1023.5784385429523),
    r"carla-town-v0": (-114.81579500772153, 2440.1772022247314),
    r"door-.*": (-56.512833, 2880.5693087298737),
    r"flow-merge-.*": (118.67993, 330.03179),
    r"flow-ring-.*": (-165.22, 24.42),
    r"halfcheetah-.*": (-280.178953, 12135.0),
    r"hammer-.*": (-274.856578, 12794.134825156867),
    r"hopper-.*": (-20.272305, 3234.3),
    r"kitchen-.*": (0.0, 4.0),
    r"maze2d-large-dense-v1": (30.569041, 303.4857382709002),
    r"maze2d-large-v1": (6.7, 273.99),
    r"maze2d-medium-dense-v1": (44.264742, 297.4552547777125),
    r"maze2d-medium-v1": (13.13, 277.39),
    r"maze2d-open-dense-v0": (11.17817, 27.166538620695782),
    r"maze2d-open-v0": (0.01, 20.66),
    r"maze2d-umaze-dense-v1": (68.537689, 193.66285642381482),
    r"maze2d-umaze-v1": (23.85, 161.86),
    r"minigrid-fourrooms-.*": (0.01442, 2.89685),
    r"pen-.*": (96.262799, 3076.8331017826877),
    r"relocate-.*": (-6.425911, 4233.877797728884),
    r"walker2d-.*": (1.629008, 4592.3),
}
# Gymnasium's environments -> the data sets whose references they share.
OF_ENVIRONMENT = {
    "HalfCheetah": r"halfcheetah-.*",
    "Hopper": r"hopper-.*",
    "Walker2d": r"walker2d-.*",
    "Ant": r"ant-.*",
    "AdroitHandDoor": r"door-.*",
    "AdroitHandHammer": r"hammer-.*",
    "AdroitHandPen": r"pen-.*",
    "AdroitHandRelocate": r"relocate-.*",
}
# Game, random policy, human tester: copied from dqn_zoo/atari_data.py of DQN Zoo.
ATARI = """
Alien 227.8 7127.7
Amidar 5.8 1719.5
Assault 222.4 742.0
Asterix 210.0 8503.3
Asteroids 719.1 47388.7
Atlantis 12850.0 29028.1
BankHeist 14.2 753.1
BattleZone 2360.0 37187.5
BeamRider 363.9 16926.5
Berzerk 123.7 2630.4
Bowling 23.1 160.7
Boxing 0.1 12.1
Breakout 1.7 30.5
Centipede 2090.9 12017.0
ChopperCommand 811.0 7387.8
CrazyClimber 10780.5 35829.4
Defender 2874.5 18688.9
DemonAttack 152.1 1971.0
DoubleDunk -18.6 -16.4
Enduro 0.0 860.5
FishingDerby -91.7 -38.7
Freeway 0.0 29.6
Frostbite 65.2 4334.7
Gopher 257.6 2412.5
Gravitar 173.0 3351.4
Hero 1027.0 30826.4
IceHockey -11.2 0.9
Jamesbond 29.0 302.8
Kangaroo 52.0 3035.0
Krull 1598.0 2665.5
KungFuMaster 258.5 22736.3
MontezumaRevenge 0.0 4753.3
MsPacman 307.3 6951.6
NameThisGame 2292.3 8049.0
Phoenix 761.4 7242.6
Pitfall -229.4 6463.7
Pong -20.7 14.6
PrivateEye 24.9 69571.3
Qbert 163.9 13455.0
Riverraid 1338.5 17118.0
RoadRunner 11.5 7845.0
Robotank 2.2 11.9
Seaquest 68.4 42054.7
Skiing -17098.1 -4336.9
Solaris 1236.3 12326.7
SpaceInvaders 148.0 1668.7
StarGunner 664.0 10250.0
Surround -10.0 6.5
Tennis -23.8 -8.3
TimePilot 3568.0 5229.2
Tutankham 11.4 167.6
UpNDown 533.4 11693.2
Venture 0.0 1187.5
VideoPinball 16256.9 17667.9
WizardOfWor 563.5 4756.5
YarsRevenge 3092.9 54576.9
Zaxxon 32.5 9173.3
"""
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


@pytest.mark.parametrize("name", SCORED)
def test_references_are_those_of_d4rl(name):
    (expected,) = [pair for names, pair in REFERENCES.items() if re.fullmatch(names, name)]
    assert reference_scores(name) == reference_scores(f"d4rl:{name}") == expected


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
    np.testing.assert_allclose(
        normalized_score(returns, "hopper-medium-v2"), [0, 100, 50], atol=1e-9
    )
    assert normalized_score(12135.0, "halfcheetah-random-v0") == pytest.approx(100)
    assert normalized_score(np.float32(4.0), "d4rl:kitchen-mixed-v0") == 100
    assert normalized_score(np.zeros((2, 3)), "antmaze-large-play-v2").shape == (2, 3)


@given(st.floats(-1e6, 1e6), st.sampled_from(SCORED))
def test_normalized_score_is_undone(value, name):
    low, high = reference_scores(name)
    score = normalized_score(value, name)
    assert low + score / 100 * (high - low) == pytest.approx(value, rel=1e-9, abs=1e-6)


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


@pytest.mark.parametrize("row", ATARI.split("\n")[1:-1])
def test_atari_scores_are_those_of_dqn_zoo(row):
    game, low, high = row.split()
    returns = [float(low), float(high)]
    np.testing.assert_allclose(human_normalized_score(returns, game), [0, 100], atol=1e-12)


@pytest.mark.parametrize("table", ["atari.json", "d4rl.json"])
def test_tables_stand_in_the_package(table):
    assert files("rlop.data").joinpath(table).is_file()
