"""The list of sources of `rlop info`, what it says of D4RL's files, and sources of one's own."""

from __future__ import annotations

import pytest
from helpers.data import d4rl_arrays, make

import rlop
from rlop.cli import main
from rlop.data import load, load_dataset, sources, write_hdf5
from rlop.data.formats import d4rl
from rlop.types import InputError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without any data set."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for about in sources.ABOUT.values():
        if about.variable:
            monkeypatch.delenv(about.variable, raising=False)
    monkeypatch.delenv("RLOP_MIRRORS", raising=False)
    monkeypatch.setattr(load, "REGISTERED", {})
    monkeypatch.setattr(sources, "REGISTERED", load.REGISTERED)
    return tmp_path


def entries(text):
    """Split a listing into name -> lines."""
    found = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("    "):
            found[name].append(line.strip())
        else:
            name = line
            found[name] = []
    return found


def test_every_source_is_listed(home, capsys):
    folder = home / ".d4rl" / "datasets"
    folder.mkdir(parents=True)
    (folder / "a.hdf5").write_bytes(bytes(1_500_000))
    (folder / "b.hdf5").write_bytes(bytes(1_000))
    (folder / "c.hdf5.part").write_bytes(bytes(9))
    (folder / "c.hdf5.part.origin").write_bytes(bytes(9))

    assert main(["info"]) == 0
    found = entries(capsys.readouterr().out)
    for prefix in load.PREFIXES:
        assert f"{prefix}:NAME" in found
    assert "gridworld" in found
    assert "*.hdf5, *.h5, *.npz" in found

    d4rl_lines = found["d4rl:NAME"]
    assert f"on disk: 2 files, 1.5 MB in {folder} ($D4RL_DATASET_DIR)" in d4rl_lines
    assert any(line.startswith("origin: rail.eecs.berkeley.edu") for line in d4rl_lines)
    assert any(line.startswith("license: CC BY 4.0") for line in d4rl_lines)
    assert "on disk: unknown, $DQN_REPLAY_DIR is not set" in found["dqn-replay:NAME"]
    assert any("0 files, 0 bytes" in line for line in found["minari:NAME"])


def test_folders_of_variables(home, monkeypatch):
    (home / "mine" / "deep").mkdir(parents=True)
    (home / "mine" / "deep" / "x.gz").write_bytes(bytes(2_000_000_000 // 10**6))
    monkeypatch.setenv("DQN_REPLAY_DIR", "~/mine")
    about = sources.ABOUT["dqn-replay"]
    assert sources.on_disk(about) == (
        f"on disk: 1 files, 2 kB in {home / 'mine'} ($DQN_REPLAY_DIR)"
    )
    assert sources.on_disk(sources.About("", "", "")) == "on disk: wherever you name a file"


def test_prefixes_without_a_row_and_own_names_are_listed_too(monkeypatch):
    monkeypatch.setitem(load.PREFIXES, "strange", d4rl.read_d4rl)
    rlop.register_dataset("own", lambda source: make([3], [True]))
    found = entries(sources.listing())
    assert found["strange:NAME"] == ["no description"]
    assert found["own"] == ["registered on this machine"]


def test_info_of_a_file_of_d4rl(home, capsys, monkeypatch):
    assert main(["info", "d4rl:hopper-medium-v2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"not on disk: expected {home}/.d4rl/datasets/hopper_medium-v2.hdf5")
    assert "published: 152,756,557 bytes, sha256 5bdf1bc4" in printed
    assert printed.endswith("fetch it: rlop info d4rl:hopper-medium-v2 --download\n")

    def fetch(urls, path, published):
        assert urls == [
            "https://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_medium-v2.hdf5"
        ]
        assert published.size == 152_756_557
        write_hdf5(path, d4rl_arrays(60, [10], [30]), {})

    monkeypatch.setattr(d4rl, "fetch", fetch)
    assert main(["info", "d4rl:hopper-medium-v2", "--download"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"on disk: {home}/.d4rl/datasets/hopper_medium-v2.hdf5, ")
    assert "; not the published file: " in printed
    assert "58 transitions" in printed

    assert main(["info", "d4rl:hoper-medium-v2"]) == 2
    assert "did you mean 'hopper-medium-v2'" in capsys.readouterr().err


# ---- sources of one's own


def test_a_registered_reader_gets_source_and_options():
    asked = []

    def read_mine(source: str, *, fold: int = 0):
        asked.append((source, fold))
        return make([4, 2], [True, False])

    rlop.register_dataset("mine", read_mine)
    assert len(load_dataset("mine:first", fold=3)) == 6
    assert len(load_dataset("mine")) == 6
    assert asked == [("mine:first", 3), ("mine", 0)]
    with pytest.raises(InputError, match=r"^mine:first: no option 'fald', did you mean 'fold'\?$"):
        load_dataset("mine:first", fald=3)
    with pytest.raises(InputError, match=r"did you mean 'mine'\?$"):
        load_dataset("mie")

    rlop.register_dataset("mine", lambda source: make([3], [True]))
    assert len(load_dataset("mine:first")) == 3


@pytest.mark.parametrize(
    ("name", "reader", "message"),
    [
        ("d4rl", make, r"name 'd4rl': is one of rlop's own$"),
        ("gridworld", make, r"name 'gridworld': is one of rlop's own$"),
        ("my:own", make, r"name 'my:own': expected letters, digits, - and _$"),
        ("", make, r"name '': expected letters"),
        ("own", 3, r"reader of 'own': found int, expected a function of a source"),
    ],
)
def test_names_that_cannot_be_registered(name, reader, message):
    with pytest.raises(InputError, match=message):
        rlop.register_dataset(name, reader)
    assert load.REGISTERED == {}
