"""Exported policies act as the policy does; what stands in the files and cards."""

from __future__ import annotations

import json
import logging

import gymnasium
import numpy as np
import pytest
import torch
from helpers import echo
from rlop.agents import BC, CQL, DQN, IQL, ReBRAC

from rlop.cli import main
from rlop.deploy.card import card, shown
from rlop.deploy.files import WRITERS
from rlop.deploy.graph import Graph
from rlop.types import InputError, Spec

N = 1000


@pytest.fixture(autouse=True)
def _echo():
    echo.register()
    yield
    del gymnasium.registry[echo.ENV_ID]


def part_of(obs, path):
    """Return a part of nested dictionaries."""
    for key in path.split("/"):
        obs = obs[key]
    return obs


def inputs_of(kind, policy, n=N):
    """Return observations of a row, together and as the arrays that a graph takes."""
    batch = echo.stacked(policy.observation_space, echo.observations(kind, n))
    if not isinstance(batch, dict):
        return batch, {"obs": batch}
    return batch, {path: part_of(batch, path) for path, _ in policy.parts}


def check_equal(actions, policy, batch):
    """Discrete actions are the same; continuous ones to the rounding of another product."""
    expected = policy(batch)
    assert actions.dtype == expected.dtype
    assert actions.shape == expected.shape
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)
    else:
        assert np.array_equal(actions, expected)


@pytest.mark.parametrize(("kind", "cls"), echo.PAIRS, ids=echo.IDS)
def test_the_graph_is_the_policy_to_the_bit(kind, cls):
    agent, _ = echo.agent_of(kind, cls)
    policy = agent.policy(1)
    batch, inputs = inputs_of(kind, policy)
    graph = Graph(policy.agent, policy.adapter)
    assert list(graph.inputs) == list(inputs)
    with torch.no_grad():
        actions = graph(*map(torch.from_numpy, inputs.values())).numpy()
    expected = policy(batch)
    assert actions.dtype == expected.dtype
    assert np.array_equal(actions, expected)


HEAD = {"head": {"quantile": {"n": 5}}, "layers": {"norm": "batch"}}
EXPORTED = [
    ("dictionary", DQN, HEAD),
    ("axes and bounds", CQL, {}),
    ("axes and bounds", IQL, {}),
    ("axes and bounds", ReBRAC, {}),
    ("pixels", BC, {}),
]
NAMES = [f"{row[0]} {row[1].__name__}" for row in EXPORTED]


@pytest.mark.parametrize(("kind", "cls", "options"), EXPORTED, ids=NAMES)
def test_onnx_runtime_acts_equally(kind, cls, options, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    agent, _ = echo.agent_of(kind, cls, **options)
    policy = agent.policy(1)
    file = policy.export(tmp_path / "policy.onnx")

    session = runtime.InferenceSession(file)
    batch, inputs = inputs_of(kind, policy)
    assert [item.name for item in session.get_inputs()] == list(inputs)
    assert [item.name for item in session.get_outputs()] == ["action"]
    check_equal(session.run(None, inputs)[0], policy, batch)
    one = {name: part[:1] for name, part in inputs.items()}
    assert len(session.run(None, one)[0]) == 1


@pytest.mark.parametrize(("kind", "cls", "options"), EXPORTED, ids=NAMES)
def test_plain_pytorch_acts_equally(kind, cls, options, tmp_path):
    agent, _ = echo.agent_of(kind, cls, **options)
    policy = agent.policy(1)
    program = torch.export.load(policy.export(tmp_path / "policy.pt2"))
    batch, inputs = inputs_of(kind, policy)
    actions = program.module()(*map(torch.from_numpy, inputs.values()))
    check_equal(actions.numpy(), policy, batch)


def test_safetensors_hold_the_parameters_of_one_run_and_their_story(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    agent, _ = echo.agent_of("normalized", DQN)
    file = agent.policy(1).export(tmp_path / "policy.safetensors")
    with safetensors.safe_open(file, framework="np") as stored:
        weight = stored.get_tensor("q.head.weight")
        about = json.loads(stored.metadata()["policy"])
    assert np.array_equal(weight, agent.online.head.weight[1].detach())
    assert about == {"agent": "DQN", "run": "seed=5", "seed": 5}


def test_files_replace_older_ones_whole_and_need_a_known_kind(tmp_path):
    policy = DQN(Spec((4,), 3), hidden=(8,)).policy()
    with pytest.raises(InputError, match=r"policy.zip: expected a file of kind .onnx, .pt2, .safe"):
        policy.export(tmp_path / "policy.zip")
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "new").write_text("a file")
    with pytest.raises(InputError, match=r"policy.pt2: cannot be written"):
        policy.export(tmp_path / "new" / "policy.pt2")

    file = policy.export(tmp_path / "deep" / "policy.pt2")
    first = file.read_bytes()
    policy.export(file)
    assert len(file.read_bytes()) == len(first)
    assert sorted(path.name for path in file.parent.iterdir()) == ["policy.md", "policy.pt2"]


def test_an_agent_that_branches_on_values_is_named(tmp_path):
    class Moody(DQN):
        def act(self, obs):
            actions = super().act(obs)
            return actions if float(obs.sum()) > 0 else 1 - actions

    with pytest.raises(InputError, match=r"policy.pt2: Moody.act cannot be written as a graph"):
        Moody(Spec((4,), 2), hidden=(8,)).policy().export(tmp_path / "policy.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "package"), [("onnx", "onnxscript"), ("safetensors",) * 2])
def test_a_missing_package_is_named_with_its_extra(suffix, package, tmp_path, monkeypatch):
    policy = DQN(Spec((4,), 3), hidden=(8,)).policy()

    def missing(graph, about):
        raise ImportError

    monkeypatch.setitem(WRITERS, suffix, missing)
    with pytest.raises(InputError, match=rf'needs {package}, .* pip install "rlop\[export\]"'):
        policy.export(tmp_path / f"policy.{suffix}")


def test_the_exporters_own_log_is_left_as_it_was(tmp_path):
    log = logging.getLogger("torch.onnx")
    before = log.level
    DQN(Spec((4,), 3), hidden=(8,)).policy().export(tmp_path / "policy.pt2")
    assert log.level == before


# ---- cards


def test_a_card_says_what_goes_in_and_comes_out(tmp_path):
    agent, _ = echo.agent_of("dictionary", DQN)
    file = agent.policy(0).export(tmp_path / "policy.pt2")
    text = file.with_suffix(".md").read_text()
    for line in (
        "# Policy policy.pt2",
        "- agent: DQN",
        "- run: seed=3",
        "- input bits: int8 (n, 2)",
        "- input arm/mode: int64 (n)",
        "- input arm/at: float32 (n, 3)",
        "- output action: int64 (n), of Discrete",
        '"lr": 0.01',
        "- torch: ",
    ):
        assert line in text, line


def test_cards_are_short_and_hold_every_section():
    text = card("A", {"data": {"name": "x", "many": list(range(50))}, "configuration": {"a": [1]}})
    assert text.startswith("# A\n\n## Data\n\n- name: x\n- many: 50 values\n")
    assert text.rstrip().endswith('```json\n{\n "a": [\n  1\n ]\n}\n```')
    assert shown((0.1234567891, 2)) == "0.123457, 2"


def test_export_has_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    assert "--out FILE" in capsys.readouterr().out
