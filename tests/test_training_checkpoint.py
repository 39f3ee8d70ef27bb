"""Checkpoints: whole or not at all, with names for functions, and safe to read from strangers."""

import functools
import os
import sys
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.training import parameters_of
from rlop.agents import BC, DQN

import rlop
from rlop.training.checkpoint import agent_class, load, load_agent, save
from rlop.types import InputError

SMALL = {"hidden": (8, 8), "batch_size": 8}
QUIET = {"log_every": 5, "probe_every": 0, "progress": False}
FILE = "checkpoint.pt"


def feature_norm(context):
    """Return the mean squared norm of the features, `[R]`."""
    return context.features.square().sum(-1).mean(-1)


@dataclass(frozen=True)
class FeatureNorm:
    """The same norm as an object with an option."""

    power: float = 2.0

    def __call__(self, context):
        return self.norm(context)

    def norm(self, context):
        return context.features.abs().pow(self.power).sum(-1).mean(-1)


def make(data, **options):
    return DQN(data.spec, **{**SMALL, **options})


def with_norm(data, function):
    """Return an agent whose regularizer `norm` is a function."""
    return make(data, regularizers={"norm": {"fn": function, "coef": [0.0, 0.01]}})


def assert_acts_alike(agent, other, data):
    obs = torch.from_numpy(data.obs).expand(len(agent.runs), -1, -1)
    assert torch.equal(agent.act(obs), other.act(obs))
    for name, parameter in parameters_of(agent).items():
        assert torch.equal(parameters_of(other)[name], parameter), name


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole or not at all


def test_load_agent_restores_variants_labels_and_actions(tiny, tmp_path):
    variants = {"plain": {}, "dr3": {"regularizers.dr3": 0.1}, "slow": {"lr": 1e-5}}
    agent = make(tiny, seeds=[3, 5], variants=variants, projections={"max_norm": 1.0})
    rlop.train(agent, tiny, 20, logdir=tmp_path, **QUIET)
    again, content = load_agent(tmp_path / FILE)
    assert content["step"] == 20
    assert again.variants == variants
    assert again.runs == agent.runs
    assert again.runs.labels == agent.runs.labels
    assert again.config == agent.config
    assert_acts_alike(agent, again, tiny)


def test_the_old_file_still_loads_when_the_writer_fails_midway(tiny, tmp_path, monkeypatch):
    first, second = make(tiny), make(tiny, seeds=[7])
    path = save(tmp_path / FILE, first, step=1)

    def fail_midway(content, file):
        file.write(path.read_bytes()[:500])
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail_midway)
    with pytest.raises(InputError, match=r"checkpoint\.pt: cannot be written \(No space left"):
        save(path, second, step=2)
    again, content = load_agent(path)
    assert content["step"] == 1
    assert_acts_alike(first, again, tiny)
    assert files_in(tmp_path) == [FILE]


def test_the_new_file_is_on_disk_before_it_takes_the_place_of_the_old_one(
    tiny, tmp_path, monkeypatch
):
    path = tmp_path / FILE
    events = []
    fsync, replace = os.fsync, os.replace

    def log_fsync(descriptor):
        events.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def log_replace(source, target):
        events.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "replace", log_replace)
    save(path, make(tiny), step=1)

    # The file that then stands at the path was renamed, not copied; last, its name is synced.
    inode, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert events == [("fsync", inode), ("replace", inode), ("fsync", folder)]


def test_what_is_no_checkpoint_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: no such checkpoint"):
        load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pt: not a checkpoint"):
        load(tmp_path / "text.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: expected a checkpoint of format"):
        load(tmp_path / "other.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tiny, tmp_path, share):
    path = save(tmp_path / FILE, make(tiny), step=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="not a checkpoint"):
        load(path)


def test_a_pickled_object_is_not_executed(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save(Trap(), tmp_path / "trap.pt")
    with pytest.raises(InputError, match="not a checkpoint"):
        load(tmp_path / "trap.pt")
    assert "executed" not in capsys.readouterr().out


# --- functions

FUNCTIONS = {
    "function": feature_norm,
    "lambda": lambda context: feature_norm(context),
    "partial": functools.partial(feature_norm),
    "object": FeatureNorm(),
    "method": FeatureNorm(power=1.0).norm,
}
by_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())


@by_function
def test_a_training_with_a_function_resumes_when_it_is_given_again(tiny, tmp_path, function):
    whole, half, rest = (with_norm(tiny, function) for _ in range(3))
    rlop.train(whole, tiny, 20, **QUIET)
    rlop.train(half, tiny, 10, logdir=tmp_path, **QUIET)
    history = rlop.train(rest, tiny, 20, logdir=tmp_path, resume=True, **QUIET)
    assert history.get("reg/norm")[0].tolist() == [5, 10, 15, 20]
    assert (history.get("reg/norm")[1] > 0).all()
    assert_acts_alike(whole, rest, tiny)


@by_function
def test_load_agent_takes_a_function_among_the_parts(tiny, tmp_path, function):
    agent = with_norm(tiny, function)
    rlop.train(agent, tiny, 5, logdir=tmp_path, **QUIET)
    again, _ = load_agent(tmp_path / FILE, parts={"norm": function})
    assert_acts_alike(agent, again, tiny)
    assert again.config.regularizers["norm"]["fn"] == function


def test_load_agent_calls_a_function_by_its_name_only_where_the_caller_allows_it(tiny, tmp_path):
    agent = with_norm(tiny, feature_norm)
    rlop.train(agent, tiny, 5, logdir=tmp_path, **QUIET)
    with pytest.raises(InputError, match=rf"parts=.*or allow=\['{__name__}'\]"):
        load_agent(tmp_path / FILE)

    again, _ = load_agent(tmp_path / FILE, allow=[__name__])
    assert again.config.regularizers["norm"]["fn"] is feature_norm
    assert_acts_alike(agent, again, tiny)


@pytest.mark.parametrize("name", ["lambda", "partial", "object", "method"])
def test_load_agent_says_how_to_give_a_function_without_a_name(tiny, tmp_path, name):
    rlop.train(with_norm(tiny, FUNCTIONS[name]), tiny, 5, logdir=tmp_path, **QUIET)
    with pytest.raises(InputError, match=r"'norm' was a function.*parts=\{'norm': function\}"):
        load_agent(tmp_path / FILE)


def test_a_name_that_leads_to_no_function_is_refused(tiny, tmp_path):
    rlop.train(with_norm(tiny, feature_norm), tiny, 5, logdir=tmp_path, **QUIET)
    content = load(tmp_path / FILE)
    content["config"]["regularizers"]["norm"]["fn"] = f"{__name__}:SMALL"
    torch.save(content, tmp_path / FILE)
    with pytest.raises(InputError, match=r"'norm' is .*:SMALL', expected a function"):
        load_agent(tmp_path / FILE, allow=[__name__])


# --- parts named by import path

MODULE = """
from rlop.agents import BC, DQN

def feature_norm(context):
    return context.features.square().sum(-1).mean(-1)

class Mine(DQN):
    pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module that can be imported."""
    (tmp_path / "users_parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "users_parts"
    sys.modules.pop("users_parts", None)


@pytest.fixture(params=["regularizer", "function", "agent"])
def stranger(request, tiny, tmp_path, module):
    """An agent of a module that is not imported any more, and the path of its checkpoint."""
    mine = agent_class(f"{module}:Mine")
    if request.param == "agent":
        agent = mine(tiny.spec, **SMALL)
    elif request.param == "regularizer":
        agent = make(tiny, regularizers={f"{module}:feature_norm": 0.01})
    else:
        agent = with_norm(tiny, sys.modules[module].feature_norm)
    rlop.train(agent, tiny, 5, logdir=tmp_path / "run", **QUIET)
    del sys.modules[module]
    return agent, tmp_path / "run" / FILE


def test_a_checkpoint_holds_the_import_paths_of_parts(tiny, tmp_path, module):
    mine = agent_class(f"{module}:Mine")
    function = sys.modules[module].feature_norm
    terms = {"norm": {"fn": function, "coef": 0.1}, f"{module}:feature_norm": 0.01}
    agent = mine(tiny.spec, regularizers=terms, **SMALL)
    rlop.train(agent, tiny, 5, logdir=tmp_path / "run", **QUIET)
    content = load(tmp_path / "run" / FILE)
    assert content["agent"] == "users_parts:Mine"
    stored = content["config"]["regularizers"]
    assert stored["norm"]["fn"] == "users_parts:feature_norm"
    assert set(stored) == {"norm", "users_parts:feature_norm"}


def test_load_agent_imports_nothing_that_is_not_allowed(stranger, module):
    _, path = stranger
    with pytest.raises(InputError, match=r"imports nothing.*allow=\['users_parts'\]") as caught:
        load_agent(path)
    assert str(path) in str(caught.value)
    assert module not in sys.modules
    with pytest.raises(InputError, match="imports nothing"):
        load_agent(path, allow=["another_module"])
    assert module not in sys.modules


def test_load_agent_imports_what_is_allowed(stranger, module, tiny):
    agent, path = stranger
    again, _ = load_agent(path, allow=[module])
    assert type(again).__name__ == type(agent).__name__
    assert_acts_alike(agent, again, tiny)


def test_load_agent_takes_agents_but_no_functions_of_imported_modules(stranger, module, tiny):
    agent, path = stranger
    agent_class(f"{module}:Mine")  # imports the module
    if type(agent) is DQN:
        with pytest.raises(InputError, match=r"imports nothing.*allow=\['users_parts'\]"):
            load_agent(path)
    else:
        again, _ = load_agent(path)
        assert_acts_alike(agent, again, tiny)


@pytest.mark.parametrize("section", ["regularizers", "projections"])
def test_variants_of_a_checkpoint_import_nothing_either(tiny, tmp_path, module, section):
    rlop.train(make(tiny), tiny, 5, logdir=tmp_path / "run", **QUIET)
    path = tmp_path / "run" / FILE
    content = load(path)
    content["variants"] = {"x": {f"{section}.{module}:feature_norm": 1.0}}
    torch.save(content, path)
    with pytest.raises(InputError, match="imports nothing"):
        load_agent(path)
    assert module not in sys.modules


def test_numbers_of_numpy_are_stored_as_plain_ones(tiny, tmp_path):
    agent = make(tiny, seeds=np.arange(2), variants={"a": {"lr": np.float64(1e-3)}})
    path = save(tmp_path / FILE, agent, step=0)
    again, content = load_agent(path)
    assert content["seeds"] == [0, 1]
    assert again.runs == agent.runs


def test_a_resume_from_the_checkpoint_of_another_agent_is_refused(tiny, tmp_path):
    rlop.train(make(tiny), tiny, 5, logdir=tmp_path, **QUIET)
    other = BC(tiny.spec, hidden=(8,), batch_size=8)
    with pytest.raises(InputError, match=r"agent\.name = DQN -> BC"):
        rlop.train(other, tiny, 10, logdir=tmp_path, resume=True, **QUIET)


# --- names of agents


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DNQ", "unknown agent, did you mean 'DQN'"),
        ("rlop.types:Spec", r"expected a subclass of rlop\.agent\.Agent"),
        ("rlop.types:Nothing", "has no 'Nothing'"),
        ("no_such_module:Agent", "cannot be imported"),
    ],
)
def test_an_agent_that_is_not_there_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        agent_class(name)


def test_a_damaged_part_with_a_line_break_in_its_name_is_one_line(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("two\nlines", b"12345678")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"12345679"))
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: damaged: 'two\\nlines' does not fit its checksum"


def test_a_checkpoint_older_than_an_option_is_resumed_at_its_default(tiny, tmp_path):
    """Older versions did what the default says; another value is another training."""
    options = {"log_every": 5, "probe_every": 0, "progress": False, "logdir": tmp_path}
    small = {"hidden": (8,), "batch_size": 8}
    rlop.train(DQN(tiny.spec, **small), tiny, 5, **options)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["training"]["identity"]["agent"]["head"]
    torch.save(content, path)

    with pytest.raises(InputError, match="head = unset -> rem"):
        rlop.train(DQN(tiny.spec, head="rem", **small), tiny, 10, resume=True, **options)
    history = rlop.train(DQN(tiny.spec, **small), tiny, 10, resume=True, **options)
    assert history.steps[-1] == 10
