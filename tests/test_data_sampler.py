"""Random streams, tables, and batches gathered ahead."""

import numpy as np
import pytest
import torch

from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import CHUNK, Streams, Table, check_batch_size, probe_batch
from rlop.types import InputError

NOISE = {"action": ("uniform", (5,)), "policy": ("normal", (5, 2))}


def draws(seeds, steps=3 * CHUNK // 2):
    streams = Streams(seeds, 5, 1000, NOISE)
    return [streams.next() for _ in range(steps)]


def test_a_run_draws_the_same_alone_and_among_others():
    for among, alone in zip(draws([3, 8, 3]), draws([8]), strict=True):
        rows, noise = among
        rows_alone, noise_alone = alone
        assert torch.equal(rows[1], rows_alone[0])
        assert torch.equal(rows[0], rows[2])
        assert not torch.equal(rows[0], rows[1])
        for name in NOISE:
            assert torch.equal(noise[name][1], noise_alone[name][0])


def test_streams_of_two_seeds_are_not_shifted_copies():
    rows = torch.cat([index for index, _ in draws(range(6), 200)], dim=1).numpy()
    others = np.concatenate(rows)
    # Runs of five equal numbers in a row: one in 1000^5 places by chance.
    windows = np.lib.stride_tricks.sliding_window_view(others, 5)
    assert len(np.unique(windows, axis=0)) == len(windows)


def test_noise_has_its_distribution_and_shape():
    drawn = draws([0], 400)
    uniform = torch.stack([noise["action"] for _, noise in drawn])
    normal = torch.stack([noise["policy"] for _, noise in drawn])
    assert uniform.shape == (400, 1, 5)
    assert normal.shape == (400, 1, 5, 2)

    assert 0 <= uniform.min() < uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.03)
    assert normal.mean().item() == pytest.approx(0, abs=0.06)
    assert normal.std().item() == pytest.approx(1, abs=0.06)


def test_rows_cover_the_data():
    rows = torch.cat([index.flatten() for index, _ in draws([0], 2000)])
    assert rows.min() == 0
    assert rows.max() == 999


@pytest.mark.parametrize("count", [1, 3, CHUNK, 2 * CHUNK + 5])
def test_many_steps_at_once_are_the_same_numbers(count):
    streams = Streams([1, 2], 5, 1000, NOISE)
    streams.next()
    rows, noise = streams.take(count)
    assert noise["policy"].shape == (count, 2, 5, 2)

    for step, (index, numbers) in enumerate(draws([1, 2], count + 1)[1:]):
        assert torch.equal(rows[step], index)
        assert torch.equal(noise["policy"][step], numbers["policy"])


@pytest.mark.parametrize("at", [0, 1, CHUNK, CHUNK + 7])
def test_state_continues_with_the_very_next_numbers(at):
    first = Streams([1, 2], 5, 1000, NOISE)
    for _ in range(at):
        first.next()
    second = Streams([1, 2], 5, 1000, NOISE)
    second.load_state_dict(first.state_dict())

    for _ in range(CHUNK + 3):
        rows, noise = first.next()
        same_rows, same_noise = second.next()
        assert torch.equal(rows, same_rows)
        assert torch.equal(noise["policy"], same_noise["policy"])


def test_renewed_streams_draw_from_the_new_number_of_rows():
    streams = Streams([1], 50, 1000, {})
    streams.next()
    streams.n_rows = 10
    streams.renew()
    rows, _ = streams.take(CHUNK)
    assert rows.max() == 9


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


# ---- batches gathered ahead


def few_streams(table):
    return Streams([0, 1], 5, len(table), {"action": ("uniform", (5,))})


def test_prefetched_batches_are_the_same_numbers(tiny):
    table = Table(tiny.columns())
    plain, ahead = few_streams(table), Prefetcher(few_streams(table), table.gather)
    for _ in range(2 * CHUNK + 6):  # over the ends of two chunks
        index, noise = plain.next()
        batch, same_noise = ahead.next()
        assert torch.equal(batch.index, index)
        assert torch.equal(noise["action"], same_noise["action"])


def test_several_prefetched_batches_at_once_are_the_same_numbers(tiny):
    table = Table(tiny.columns())
    rows, noise = few_streams(table).take(7)
    batches, same_noise = Prefetcher(few_streams(table), table.gather).take(7)
    assert torch.equal(torch.stack([batch.index for batch in batches]), rows)
    assert torch.equal(same_noise["action"], noise["action"])


@pytest.mark.parametrize("at", [1, 40])
def test_a_prefetcher_resumes_with_the_very_next_batch(tiny, at):
    table = Table(tiny.columns())
    straight = Prefetcher(few_streams(table), table.gather)
    for _ in range(at):
        straight.next()

    resumed = Prefetcher(few_streams(table), table.gather)
    resumed.next()  # what it has drawn by itself is dropped
    resumed.load_state_dict(straight.state_dict())
    for _ in range(12):
        batch, _ = straight.next()
        same_batch, _ = resumed.next()
        assert torch.equal(batch.index, same_batch.index)


def test_an_exception_in_gathering_reaches_the_caller():
    def broken(index):
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        Prefetcher(Streams([0], 5, 10, {}), broken).next()
