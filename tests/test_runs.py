"""Expansion of seeds, swept values and variants into runs."""

import pytest

from rlop.runs import expand, seed_list
from rlop.types import InputError


def test_product_with_the_seed_fastest():
    runs = expand({"lr": [1e-3, 1e-4], "alpha": 0.5, "regularizers.dr3": [0.0, 0.03]}, seeds=2)
    assert len(runs) == 8
    assert runs.seeds == (0, 1) * 4
    assert runs.values["lr"] == (1e-3,) * 4 + (1e-4,) * 4
    assert runs.values["alpha"] == (0.5,) * 8
    assert runs.labels[2] == "lr=0.001,dr3=0.03,seed=0"
    assert runs.hparams[2] == {"lr": 1e-3, "regularizers.dr3": 0.03, "seed": 0}
    assert len(set(runs.labels)) == 8


def test_variants_replace_values_and_name_the_runs():
    runs = expand(
        {"alpha": 0.0, "lr": 1e-3}, seeds=[3, 5], variants={"dqn": {}, "cql": {"alpha": 0.1}}
    )
    assert runs.labels == ("dqn,seed=3", "dqn,seed=5", "cql,seed=3", "cql,seed=5")
    assert runs.values["alpha"] == (0.0, 0.0, 0.1, 0.1)
    assert runs.tensor("alpha").tolist() == pytest.approx([0.0, 0.0, 0.1, 0.1])


def test_a_variant_may_meet_a_sweep():
    runs = expand({"alpha": 0.0, "lr": [1.0, 2.0]}, 1, {"a": {}, "b": {"lr": 3.0}})
    assert runs.values["lr"] == (1.0, 2.0, 3.0)
    assert runs.labels == ("a,lr=1,seed=0", "a,lr=2,seed=0", "b,seed=0")


@pytest.mark.parametrize("seeds", [0, [], [1, 1], [-1]])
def test_impossible_seeds(seeds):
    with pytest.raises(InputError, match="seeds"):
        seed_list(seeds)


def test_unknown_hyper_parameter_in_a_variant():
    with pytest.raises(InputError, match=r"variants\.x.*alhpa"):
        expand({"alpha": 0.0}, 1, {"x": {"alhpa": 1.0}})
