"""The 1797 handwritten digits of 8 by 8 pixels that come with scikit-learn.

They need no download and are fitted in seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlop.types import InputError

CLASSES = 10


class Digits(NamedTuple):
    """A train and a test part; pixels in [0, 1], classes 0 to 9."""

    x: Tensor  # [N, 64] float32
    y: Tensor  # [N] int64
    x_test: Tensor  # [M, 64]
    y_test: Tensor  # [M]


def load_digits(n_train: int = 1000, seed: int = 0) -> Digits:
    """Split the digits at random.

    Args:
        n_train: size of the train part; the rest of the 1797 is the test part.
        seed: seed of the split.
    Raises:
        InputError: when scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise InputError("digits: needs scikit-learn, pip install 'rlop[supervised]'") from error

    pixels, labels = load(return_X_y=True)
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    x = torch.as_tensor(pixels)[order].float() / 16  # stored as 0 to 16
    y = torch.as_tensor(labels)[order].long()

    return Digits(x[:n_train], y[:n_train], x[n_train:], y[n_train:])


def corrupt(y: Tensor, share: float, generator: Generator) -> Tensor:
    """Redraw each label with probability `share`, uniform over all ten classes, `[N] -> [N]`."""
    random = torch.randint(CLASSES, y.shape, generator=generator)
    is_corrupt = torch.rand(y.shape, generator=generator) < share
    return torch.where(is_corrupt, random, y)
