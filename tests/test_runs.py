"""Expansion of seeds, swept values and variants into runs; numbers with one entry a run."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rlop.agents import BC, CQL, DQN, DiscreteCQL, NeuralTD

from rlop.config.schema import Count, Discount, Positive, Sweep, option, options, swept_fields
from rlop.runs import expand, expand_options, per_run, run_values, seed_list, swept_of
from rlop.types import InputError


def test_product_with_the_seed_fastest():
    hyper = {"lr": [1e-3, 1e-4], "alpha": 0.5, "regularizers.dr3": [0.0, 0.03]}
    runs = expand(hyper, seeds=2)
    assert len(runs) == 8
    assert runs.seeds == (0, 1) * 4
    assert runs.values["lr"] == (1e-3,) * 4 + (1e-4,) * 4
    assert runs.values["alpha"] == (0.5,) * 8

    assert runs.labels[2] == "lr=0.001,dr3=0.03,seed=0"
    assert runs.hparams[2] == {"lr": 1e-3, "regularizers.dr3": 0.03, "seed": 0}


def test_variants_replace_values_and_name_the_runs():
    variants = {"dqn": {}, "cql": {"alpha": 0.1}}
    runs = expand({"alpha": 0.0, "lr": 1e-3}, seeds=[3, 5], variants=variants)
    assert runs.labels == ("dqn,seed=3", "dqn,seed=5", "cql,seed=3", "cql,seed=5")
    assert runs.values["alpha"] == (0.0, 0.0, 0.1, 0.1)
    assert runs.tensor("alpha").tolist() == pytest.approx([0.0, 0.0, 0.1, 0.1])


def test_a_variant_may_meet_a_sweep():
    runs = expand({"alpha": 0.0, "lr": [1.0, 2.0]}, 1, {"a": {}, "b": {"lr": 3.0}})
    assert runs.values["lr"] == (1.0, 2.0, 3.0)
    assert runs.labels == ("a,lr=1,seed=0", "a,lr=2,seed=0", "b,seed=0")


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    st.integers(1, 4),
)
def test_every_combination_is_one_run_with_its_label(first, second, seeds):
    runs = expand({"a": first, "b": second}, seeds)
    rows = set(zip(runs.values["a"], runs.values["b"], runs.seeds, strict=True))
    n_runs = len(first) * len(second) * seeds
    assert len(runs) == len(rows) == len(set(runs.labels)) == n_runs


@pytest.mark.parametrize("seeds", [np.int64(2), [0, 1], (0, 1), np.array([0, 1])])
def test_seeds_are_a_number_or_a_list_of_plain_integers(seeds):
    listed = seed_list(seeds)
    assert listed == [0, 1]
    assert all(type(seed) is int for seed in listed)


@pytest.mark.parametrize("seeds", [0, [], [1, 1], [-1], [0.5], True, "01", 1.0])
def test_impossible_seeds(seeds):
    with pytest.raises(InputError, match="seeds"):
        seed_list(seeds)


@pytest.mark.parametrize(
    ("hyper", "variants", "message"),
    [
        ({"alpha": 0.0}, {"x": {"alhpa": 1.0}}, r"variants\.x.*alhpa"),
        ({"alpha": []}, None, r"alpha = \[\]: expected a number or a list of at least one"),
    ],
)
def test_impossible_values(hyper, variants, message):
    with pytest.raises(InputError, match=message):
        expand(hyper, 1, variants)


def test_numbers_of_runs_broadcast_against_their_parameters():
    like = torch.zeros(3, 4, 5, dtype=torch.float64)
    values = run_values([1.0, 2.0, 3.0], like)
    assert values.dtype == torch.float64
    assert (like + per_run(values, like))[:, 2, 3].tolist() == [1.0, 2.0, 3.0]

    # One number serves all runs, each of which may change its own.
    shared = run_values(0.5, like)
    shared[0] = 7.0
    assert shared.tolist() == [7.0, 0.5, 0.5]


@pytest.mark.parametrize("agent", [BC, CQL, DQN, DiscreteCQL, NeuralTD])
def test_what_an_agent_lists_as_swept_is_what_it_declares_so(agent):
    assert sorted(agent.Config.swept) == sorted(swept_fields(agent.Config))


@options
class Silent:
    """Options that list no `swept`."""

    lr: Sweep[Positive] = option(0.1)
    width: Count = option(4)
    betas: tuple[float, float] = option((0.5, 0.9))
    gamma: Sweep[Discount] = option(0.9)


def test_a_configuration_without_a_list_sweeps_the_fields_that_it_declares_so():
    assert swept_of(Silent()) == ("lr", "gamma")
    runs = expand_options(Silent(gamma=[0.5, 0.9]), {}, {}, 1, None)
    assert runs.values == {"lr": (0.1, 0.1), "gamma": (0.5, 0.9)}
