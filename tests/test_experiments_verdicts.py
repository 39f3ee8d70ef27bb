"""Intervals and verdicts against numbers worked by hand."""

import math

import pytest
from helpers.experiments import measure, record, records

from rlop.experiments.catalogue import Clause
from rlop.experiments.records import Records
from rlop.experiments.verdicts import Sample, clause_verdict, result, worst

# Mean 3, standard deviation sqrt(2.5), t = 2.776 for four degrees of freedom: 3 +- 1.963.
FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)


def test_an_interval_by_hand():
    mean, low, high = Sample(FIVE).interval
    assert mean == 3
    assert (low, high) == pytest.approx((3 - 1.9633, 3 + 1.9633), abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "inside"),
    [
        (1.0, 5.0, "reproduced", 5),
        (1.1, 4.9, "undecided", 3),  # 1.037 and 4.963 lie outside
        (-math.inf, 4.97, "reproduced", 4),
        (2.9, 3.1, "undecided", 1),
        (4.97, math.inf, "not reproduced", 1),
        (-math.inf, 1.03, "not reproduced", 1),
        (1.03, math.inf, "reproduced", 4),
    ],
)
def test_a_verdict_is_that_of_the_interval_and_seeds_count_by_themselves(
    low, high, verdict, inside
):
    sample = Sample(FIVE)
    assert sample.verdict(measure(low, high)) == verdict
    assert sample.inside(measure(low, high)) == inside


def test_a_number_that_does_not_depend_on_the_seed_has_an_interval_without_width():
    sample = Sample((2.0,) * 5)
    assert sample.interval == (2, 2, 2)
    assert sample.verdict(measure(2.0, 2.0)) == "reproduced"
    assert sample.verdict(measure(2.1, 3.0)) == "not reproduced"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((), "no verdict"), ((1.0,) * 4, "no verdict"), ((1.0,) * 4 + (math.nan,), "not reproduced")],
)
def test_few_seeds_have_no_verdict_and_nan_fails(values, verdict):
    assert Sample(values).verdict(measure(0, 2)) == verdict


@pytest.mark.parametrize(
    ("control", "has_power"),
    [
        ([1.0] * 5, False),  # passes as well
        ([9.0] * 5, True),
        ([1.9, 2.0, 2.1, 1.9, 2.1], True),  # around the end of the band
        ([math.nan] * 5, False),
        ([math.inf] * 5, True),
        ([9.0] * 4, False),  # too few
    ],
)
def test_a_measure_has_power_if_its_control_does_not_pass(control, has_power):
    found = records([1.0] * 5) + records(control, "control")
    assert result(measure(0, 2), Records(tuple(found))).has_power == has_power


def test_a_result_takes_run_and_control_of_its_own_experiment():
    found = [record(1.0), record(2.0, part="control"), record(3.0, experiment="other")]
    both = result(measure(0, 2), Records(tuple(found)))
    assert both.run.values == (1.0,)
    assert both.control.values == (2.0,)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "undecided"], "undecided"),
        (["reproduced", "no verdict"], "no verdict"),
        (["no verdict", "not reproduced", "undecided"], "not reproduced"),
    ],
)
def test_a_clause_takes_the_worst_verdict(verdicts, expected):
    assert worst(verdicts) == expected


def test_the_verdict_of_a_clause():
    found = Records(tuple(records(list(FIVE))))
    assert (
        clause_verdict(Clause("a.", (measure(0, 9), measure(4.97, 9))), found) == "not reproduced"
    )
    assert clause_verdict(Clause("a.", (measure(0, 9),)), found) == "reproduced"
    assert clause_verdict(Clause("a.", untested="because"), found) == "not tested"
