"""The script of the claims: finished parts are kept, the page is written from all of them."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from rlop.experiments import neural_td_claims
from rlop.types import InputError

SCRIPT = Path(__file__).parents[1] / "scripts" / "claims.py"


@pytest.fixture
def script(monkeypatch):
    """The script, whose parts are not trained: each notes its call."""
    spec = spec_from_file_location("claims_script", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.calls = []

    def run(part, seeds):
        module.calls.append((part, len(seeds)))
        return {"exponent": [3.0] * len(seeds)}

    monkeypatch.setattr(neural_td_claims, "run", run)
    return module


def test_finished_parts_are_kept_until_seeds_differ_or_they_are_asked_for_again(script, tmp_path):
    command = ["neural-td", "--out", str(tmp_path), "--only", "theory-free"]
    script.main(command)
    script.main(command)
    assert script.calls == [("theory-free", 8)]

    script.main([*command, "--again"])
    script.main([*command, "--seeds", "1", "2"])
    assert script.calls[1:] == [("theory-free", 8), ("theory-free", 2)]
    (line,) = (tmp_path / "neural_td.jsonl").read_text().splitlines()
    assert json.loads(line)["seeds"] == [1, 2]
    assert "free: exponent | 3 [3, 3] |" in (tmp_path / "neural_td.md").read_text()


def test_an_unknown_part_is_named(script, tmp_path):
    with pytest.raises(InputError, match="part 'tune': unknown, did you mean 'tuned'"):
        script.main(["neural-td", "--out", str(tmp_path), "--only", "tune"])
