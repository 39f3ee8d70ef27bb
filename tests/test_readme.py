"""The code of the README runs as it stands."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 3
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert "srank" in capsys.readouterr().out
    assert scope["srank"].shape[1] == 8
    assert (tmp_path / "runs" / "first" / "checkpoint.pt").exists()


def test_files_and_commands_it_names_exist():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"(?:configs|scripts|docs|rlop|tests)/[\w/]+\.\w+", text):
        assert (ROOT / name).exists(), name
