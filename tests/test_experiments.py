"""Every experiment against its bands: fast ones always, slow ones on demand."""

import math
import sys
from importlib import import_module

import numpy as np
import pytest

from rlop.experiments.catalogue import workshop
from rlop.experiments.digits import load_digits
from rlop.types import InputError

# The longest of the fast ones is slow here too: `test_each_potential_ends_at_its_own_interpolator`
# and `test_signed_rmd_is_ridge_regression` hold both of its claims more coarsely.
SLOW = {*workshop().slow_experiments, "mirror_descent"}
EXPERIMENTS = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in workshop().experiments
]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_holds_its_bands_and_draws_finite_curves(name):
    try:
        outcome = import_module(f"rlop.experiments.{name}").run()
    except InputError as error:
        if "rlop[supervised]" not in str(error):
            raise
        pytest.skip(str(error))  # the digits come with an extra

    assert outcome.curves
    for label, (x, y) in outcome.curves.items():
        assert len(x) == len(y) > 0, label
        finite = np.isfinite(np.asarray(x, float)) & np.isfinite(np.asarray(y, float))
        assert finite.all() or outcome.log, label

    assert outcome.measures
    for measure in outcome.measures:
        assert math.isfinite(measure.value), measure
        assert measure.low <= measure.high, measure
        assert measure.expected, measure
        assert measure.holds or outcome.report_only, measure


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others():
    run = import_module("rlop.experiments.single_neuron").run
    first, again, other = run(0), run(0), run(1)
    assert first == again
    values = [measure.value for measure in first.measures]
    assert values != [measure.value for measure in other.measures]


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"rlop\[supervised\]"):
        load_digits()
