"""Shared fixtures: one thread (small tensors), and a tiny random data set."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rlop.data.dataset import Dataset

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


def pytest_collection_finish():
    """Spare garbage collections the million objects that stay: modules and tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def shared_data():
    """Folder of real data sets beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED


@pytest.fixture
def tiny() -> Dataset:
    """200 random transitions in episodes of 10, half of them ending by termination."""
    rng = np.random.default_rng(0)
    ends = np.arange(200) % 10 == 9
    terminated = ends & (np.arange(200) % 20 == 9)
    return Dataset.from_arrays(
        rng.normal(size=(200, 4)).astype(np.float32),
        rng.integers(3, size=200),
        rng.normal(size=200).astype(np.float32),
        terminated,
        ends & ~terminated,
        rng.normal(size=(200, 4)).astype(np.float32),
        n_actions=3,
    )


@pytest.fixture
def moves() -> Dataset:
    """200 random transitions, actions in [-1, 1], some on the bound; half of the episodes end."""
    rng = np.random.default_rng(0)
    ends = np.arange(200) % 10 == 9
    terminated = ends & (np.arange(200) % 20 == 9)
    return Dataset.from_arrays(
        rng.normal(size=(200, 4)).astype(np.float32),
        rng.uniform(-1.2, 1.2, size=(200, 2)).clip(-1, 1).astype(np.float32),
        rng.normal(size=200).astype(np.float32),
        terminated,
        ends & ~terminated,
        rng.normal(size=(200, 4)).astype(np.float32),
    )
