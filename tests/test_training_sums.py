"""Sums of metrics, where some updates lack some of them."""

import numpy as np
import torch

from rlop.training.sums import Sums


def add(sums, **metrics):
    sums.add({name: torch.tensor([float(value), 0.0]) for name, value in metrics.items()})
    sums.count += 1


def test_a_mean_is_over_the_updates_that_had_the_metric():
    sums = Sums()
    add(sums, **{"loss/total": 1, "loss/policy": 10})
    add(sums, **{"loss/total": 2})
    add(sums, **{"loss/total": 6})
    add(sums, **{"loss/total": 3, "loss/policy": 20})
    means, _ = sums.take()
    assert {name: mean.tolist() for name, mean in means.items()} == {
        "loss/total": [3.0, 0.0],
        "loss/policy": [15.0, 0.0],
    }

    add(sums, **{"loss/total": 5})
    means, _ = sums.take()
    assert list(means) == ["loss/total"]


def test_a_state_carries_on_also_from_before_partial_updates_were_counted():
    first, second = Sums(), Sums()
    add(first, **{"loss/total": 1, "loss/policy": 10})
    add(first, **{"loss/total": 2})
    state = first.state_dict()
    second.load_state_dict(state)
    np.testing.assert_array_equal(second.take()[0]["loss/policy"], [10.0, 0.0])

    old = {name: state[name] for name in ("names", "total", "count")}
    second.load_state_dict(old)
    np.testing.assert_array_equal(second.take()[0]["loss/total"], [1.5, 0.0])
