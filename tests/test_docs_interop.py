"""The page on other people's trainings keeps its word: its code runs, shortened."""

import re
from pathlib import Path

import pytest
from helpers.interop import import_d3rlpy

from rlop.interop.networks import READERS
from rlop.logs.history import read_metrics

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "interop.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(block, *replaced):
    """Run a block with few steps, and other replacements."""
    few = ("100_000", "200"), ("100_001", "201"), ("10_000", "100")
    for old, new in (*few, *replaced):
        block = block.replace(old, new)
    exec(compile(block, "interop.md", "exec"), {})


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_runs(block, tmp_path, capsys):
    if "stable_baselines3" in block:
        pytest.importorskip("stable_baselines3")
    if "d3rlpy" in block:
        import_d3rlpy()
    run(block)

    folders = re.findall(r'"runs/([\w-]+)"', block)
    if "algorithm.__name__" in block:
        folders = ["DR3DQN-1", "MaxNormDQN-1"]
    for folder in folders:
        steps, _ = read_metrics(tmp_path / "runs" / folder).get("rank/srank")
        assert steps.tolist() == [100, 200]


def test_the_penalty_and_the_ball_of_the_loop_have_an_effect(tmp_path):
    (block,) = [block for block in BLOCKS if "loop-1" in block]
    run(block)
    without = ("0.03 *", "0.0 *")
    run(block, ("loop-1", "plain"), without, ("radius=10.0", "radius=1e9"))
    run(block, ("loop-1", "ball"), without, ("radius=10.0", "radius=0.05"))

    last = {}
    for name in ("loop-1", "plain", "ball"):
        history = read_metrics(tmp_path / "runs" / name)
        last[name] = {key: history.get(key)[1][-1, 0] for key in ("feature/dot", "feature/norm")}
    assert last["loop-1"]["feature/dot"] < 0.8 * last["plain"]["feature/dot"]
    assert last["ball"]["feature/norm"] < last["plain"]["feature/norm"]


@pytest.mark.parametrize("kind", READERS)
def test_it_names_every_kind_of_file(kind):
    assert f"| `{kind}` |" in PAGE
