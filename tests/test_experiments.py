"""Every experiment returns the values that the catalogue judges, and has a control."""

import math
import sys
from importlib import import_module

import numpy as np
import pytest

from rlop.experiments.catalogue import workshop
from rlop.experiments.digits import load_digits
from rlop.experiments.fit import child_seeds
from rlop.experiments.records import CONTROL, RUN
from rlop.experiments.running import has_control, run_part
from rlop.types import InputError

# Run in every test run, since it takes two seconds; the others are slow.
QUICK = {"single_neuron"}
EXPERIMENTS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in workshop().experiments
]


@pytest.mark.parametrize("name", workshop().experiments)
def test_an_experiment_has_a_control(name):
    assert has_control(name)


@pytest.mark.parametrize("part", [RUN, CONTROL])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_gives_finite_numbers_and_curves(name, part):
    try:
        record, outcome = run_part(name, 1, part)
    except InputError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))  # the digits, and some solvers, come with an extra

    assert record.values
    for label, value in record.values.items():
        assert math.isfinite(value), label

    assert bool(outcome.curves) == (part == RUN)
    for label, (x, y) in outcome.curves.items():
        assert len(x) == len(y) > 0, label
        finite = np.isfinite(np.asarray(x, float)) & np.isfinite(np.asarray(y, float))
        assert finite.all() or outcome.log, label


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others():
    run = import_module("rlop.experiments.single_neuron").run
    first, again, other = run(1), run(1), run(2)
    assert first == again
    assert first.values != other.values


def test_child_seeds_are_shared_by_no_two_seeds_and_do_not_depend_on_their_number():
    families = [child_seeds(seed, 50) for seed in range(20)]
    distinct = set().union(*families)
    assert len(distinct) == 20 * 50
    assert child_seeds(3, 2) == families[3][:2]


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"rlop\[supervised\]"):
        load_digits()


def test_an_unknown_experiment_is_refused_with_the_nearest_name():
    message = r"experiment 'robust_rigde': unknown, did you mean 'robust_ridge'"
    with pytest.raises(InputError, match=message):
        run_part("robust_rigde", 1)


def test_an_experiment_that_lacks_a_measure_of_the_catalogue_is_refused(monkeypatch):
    module = import_module("rlop.experiments.single_neuron")
    values = dict(module.run(1).values)
    missing = workshop().measures_of("single_neuron")[0].name
    del values[missing]
    monkeypatch.setattr(module, "control", lambda seed: values, raising=False)
    with pytest.raises(InputError, match=f"lacks the value '{missing}'"):
        run_part("single_neuron", 1, CONTROL)
