"""What fuzzing the configuration found: each is one line and exit code 2."""

from __future__ import annotations

import contextlib
import io

import pytest
from helpers.training import SMALL_CONFIG

from rlop.cli import main
from rlop.config.files import dump_yaml

HUGE = "1" + 30 * "0"
# What fuzzing found, and what users mistype: each is one line and exit code 2.
FOUND = [
    "--agent.gamma {'':1}",
    f"--agent.n_step {HUGE}",
    f"--agent.hidden [{HUGE}]",
    f"--seeds {HUGE}",
    f"--agent.batch_size -{HUGE}",
    '--logdir "\\0"',
    '--logdir "\\ud800"',
    "--logdir c.yaml/below",
    f"--logdir {300 * 'x'}",
    f"--data {300 * 'x'}.hdf5",
    "--data /dev/zero",
    "--data c.yaml/x.hdf5",
    "--agent.seeds 3",
    "--agent.device cpu",
    "--agent.name {a:,1}",
    "--agent.name {}",
    "--agent []",
    "--steps 2024-01-01",
    "--steps .nan",
    "--agent.lr .inf,-1",
    "--device cuda:99",
    "--agent.regularizers.dr3 {}",
    "--agent.regularizers [dr3]",
    "--agent.head {}",
]


def code_of(folder, monkeypatch, arguments):
    """Run `rlop train`; return its exit code and what it printed on stderr."""
    monkeypatch.chdir(folder)
    dump_yaml(SMALL_CONFIG, folder / "c.yaml")
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(["train", "c.yaml", *arguments])
    return code, errors.getvalue()


@pytest.mark.parametrize("line", FOUND, ids=lambda line: line[:40])
def test_what_was_found_is_one_line(tmp_path, monkeypatch, line):
    key, _, value = line.partition(" ")
    code, text = code_of(tmp_path, monkeypatch, [key, value])
    assert code == 2, text
    last = text.strip().splitlines()[-1]
    assert last.startswith("rlop: ")
    assert len(last) < 700


def test_arguments_that_are_no_unicode_are_one_line(tmp_path, monkeypatch):
    code, text = code_of(tmp_path, monkeypatch, ["--agent.name", "\udcff"])
    assert code == 2
    assert len(text.strip().splitlines()) == 1
