"""Random streams and gathering."""

import numpy as np
import pytest
import torch

from rlop.data.sampler import CHUNK, Streams, Table, check_batch_size, probe_batch
from rlop.types import InputError

NOISE = {"action": ("uniform", (5,)), "policy": ("normal", (5, 2))}


def draws(seeds, steps=3 * CHUNK // 2):
    streams = Streams(seeds, 5, 1000, NOISE)
    return [streams.next() for _ in range(steps)]


def test_a_run_draws_the_same_alone_and_among_others():
    for (rows, noise), (rows_alone, noise_alone) in zip(draws([3, 8, 3]), draws([8]), strict=True):
        assert torch.equal(rows[1], rows_alone[0])
        assert torch.equal(rows[0], rows[2])
        assert not torch.equal(rows[0], rows[1])
        for name in NOISE:
            assert torch.equal(noise[name][1], noise_alone[name][0])


def test_noise_has_its_distribution_and_shape():
    drawn = draws([0], 400)
    uniform = torch.stack([noise["action"] for _, noise in drawn])
    normal = torch.stack([noise["policy"] for _, noise in drawn])
    assert uniform.shape == (400, 1, 5)
    assert normal.shape == (400, 1, 5, 2)
    assert 0 <= uniform.min() < uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.03)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=0.06)


def test_rows_cover_the_data():
    rows = torch.cat([index.flatten() for index, _ in draws([0], 2000)])
    assert rows.min() == 0
    assert rows.max() == 999


@pytest.mark.parametrize("at", [0, 1, CHUNK, CHUNK + 7])
def test_state_continues_with_the_very_next_numbers(at):
    first, second = (Streams([1, 2], 5, 1000, NOISE) for _ in range(2))
    for _ in range(at):
        first.next()
    second.load_state_dict(first.state_dict())
    for _ in range(CHUNK + 3):
        (a, x), (b, y) = first.next(), second.next()
        assert torch.equal(a, b)
        assert torch.equal(x["policy"], y["policy"])


def test_gather_returns_the_rows(tiny):
    table = Table(tiny.columns())
    index = torch.tensor([[3, 199], [0, 3]])
    batch = table.gather(index)
    np.testing.assert_array_equal(batch.obs.numpy(), tiny.obs[index])
    np.testing.assert_array_equal(batch.action.numpy(), tiny.action[index])
    np.testing.assert_array_equal(batch.terminated.numpy(), tiny.terminated[index])
    np.testing.assert_array_equal(batch.discount.numpy(), np.ones((2, 2)))
    assert torch.equal(batch.index, index)
    assert batch.extra == {}


def test_probe_batch_is_the_same_for_every_run_and_call(tiny):
    batch = probe_batch(tiny.columns(), 50, runs=3)
    assert batch.obs.shape == (3, 50, 4)
    assert torch.equal(batch.index[0], batch.index[2])
    assert batch.index[0].unique().numel() == 50
    np.testing.assert_array_equal(batch.obs[1].numpy(), tiny.obs[batch.index[1]])
    np.testing.assert_array_equal(batch.next_obs[1].numpy(), tiny.next_obs[batch.index[1]])
    assert torch.equal(batch.obs, probe_batch(tiny.columns(), 50, runs=3).obs)
    assert probe_batch(tiny.columns(), 10_000, runs=1).obs.shape == (1, 200, 4)


def test_batch_larger_than_the_data():
    with pytest.raises(InputError, match=r"batch_size = 65.*64"):
        check_batch_size(65, 64)
