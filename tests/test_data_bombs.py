"""Small files that ask for very much memory are refused by their size, before any is taken."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest

from rlop.config.files import read_yaml
from rlop.data.dqn_replay.files import read_array
from rlop.types import InputError


def packed(shape, dtype="<f4", numbers=b""):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return gzip.compress(header.getvalue() + numbers)


@pytest.mark.parametrize("shape", [(10**13,), (10**6, 10**6), (2**40,)])
def test_a_replay_log_that_announces_too_much(tmp_path, shape):
    path = tmp_path / "reward_ckpt.0.gz"
    path.write_bytes(packed(shape))
    with pytest.raises(InputError, match="which no gzip file of its size holds"):
        read_array(path, "f")


def test_numbers_that_compress_well_are_read(tmp_path):
    path = tmp_path / "reward_ckpt.0.gz"
    path.write_bytes(packed((500_000,), numbers=bytes(2_000_000)))
    assert not read_array(path, "f").any()


@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 100_000, "{" * 100_000, "- " * 50_000, "a: &a [*a]", "? " * 20_000],
    ids=["lists", "mappings", "dashes", "itself", "keys"],
)
def test_nesting_without_end_is_one_line(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml: "):
        read_yaml(path)
