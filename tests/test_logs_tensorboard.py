"""What TensorBoard's own server says of several trainings in one folder, over HTTP."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import torch
from rlop.agents import DQN, DiscreteCQL

import rlop
from rlop.logs.pictures import HEIGHT, WIDTH, matrix, png, spectrum
from rlop.logs.tensorboard import hyper_parameters

SMALL = {"hidden": (8, 8), "batch_size": 8, "target_period": 7}
TRAIN = {"log_every": 5, "probe_every": 10, "eval_every": 0, "progress": False}


@contextlib.contextmanager
def tensorboard(folder):
    """Serve a folder at a port that is free, and yield a function that reads an address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    command += ["--load_fast", "false", "--reload_interval", "0"]
    with open(folder / "said", "wb+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            address = None
            while address is None:
                assert process.poll() is None, (folder / "said").read_text()
                time.sleep(0.05)
                address = re.search(r"http://\S+", (folder / "said").read_text())

            def read(path, **query):
                url = f"{address[0]}data/{path}?{urllib.parse.urlencode(query)}"
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return answer.read()

            yield read
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def trainings(tiny, tmp_path):
    """Three trainings: two that differ in a value, one of another agent."""
    torch.manual_seed(0)
    agents = {
        "slow": DQN(tiny.spec, seeds=2, lr=1e-4, **SMALL),
        "fast": DQN(tiny.spec, seeds=1, lr=1e-2, **SMALL),
        "cql": DiscreteCQL(tiny.spec, alpha=0.7, regularizers={"dr3": [0.0, 0.1]}, **SMALL),
    }
    for name, agent in agents.items():
        probes = ["cka/seeds"] if name == "slow" else []
        rlop.train(agent, tiny, 20, logdir=tmp_path / name, probes=probes, **TRAIN)
    return tmp_path


def test_tensorboard_serves_three_trainings(trainings):
    with tensorboard(trainings) as read:
        runs = json.loads(read("plugin/scalars/tags"))
        folders = {run.split("/")[0] for run in runs}
        assert folders == {"slow", "fast", "cql"}
        assert len(runs) == 5

        # A curve is that of the record.
        history = rlop.logs.history.read_metrics(trainings / "slow")
        steps, values = history.get("rank/srank")
        label = history.labels[1]
        curve = json.loads(read("plugin/scalars/scalars", run=f"slow/{label}", tag="rank/srank"))
        assert [point[1:] for point in curve] == [
            [int(step), value] for step, value in zip(steps, values[:, 1])
        ]

        layout = json.loads(read("plugin/custom_scalars/layout"))
        titles = [category["title"] for category in layout["category"]]
        assert titles == ["Learning", "Representation", "Regularizers", "System"]
        request = {"tag": "rank/srank", "run": f"slow/{label}"}
        lines = json.loads(read("plugin/custom_scalars/scalars", **request))
        assert lines["regex_valid"]
        assert len(lines["tag_to_events"]["rank/srank"]) == 3

        # A picture at the first and the last probe.
        images = json.loads(read("plugin/images/tags"))
        assert "spectrum of the features" in images[f"slow/{label}"]
        assert "CKA of the runs" in images[f"slow/{history.labels[0]}"]
        shown = json.loads(
            read(
                "plugin/images/images",
                run=f"slow/{label}",
                tag="spectrum of the features",
                sample=0,
            )
        )
        assert [picture["step"] for picture in shown] == [0, 20]
        query = dict(urllib.parse.parse_qsl(shown[-1]["query"]))
        assert read("plugin/images/individualImage", **query).startswith(b"\x89PNG")

        # Everything in which the trainings differ is a column, and every run has a row.
        found = json.loads(read("plugin/hparams/experiment", request="{}"))
        differing = {info["name"] for info in found["hparamInfos"] if info.get("differs")}
        assert {"agent", "lr", "seed", "alpha", "regularizers.dr3"} <= differing


def test_hyper_parameters_are_a_runs_own_values_and_the_rest_of_the_configuration():
    config = {"lr": [1, 2], "agent": {"regularizers": {"dr3": [0.0, 0.1]}, "hidden": [8]}}
    described = hyper_parameters({"lr": 2, "regularizers.dr3": 0.1}, {**config, "logdir": "x"})
    assert described == {"agent.hidden": [8], "lr": 2, "regularizers.dr3": 0.1}


def heights(picture):
    """Row of the line in every column."""
    return (picture == 0).argmax(0)


def test_a_spectrum_falls_by_a_decade_per_grid_line():
    values = 10.0 ** -np.arange(7)  # 1, 0.1, ..., 1e-6
    picture = spectrum(values)
    assert picture.shape == (HEIGHT, WIDTH)
    step = (HEIGHT - 1) / 6
    assert heights(picture)[[0, WIDTH // 2, -1]].tolist() == [0, round(3 * step), HEIGHT - 1]

    two = spectrum(np.stack([values, np.ones(7)]))
    assert (two[0] == 0).all()  # the flat one, at the top
    assert two[HEIGHT - 1, -1] == 0
    assert (spectrum(np.full(7, np.nan)) > 0).all()
    assert (spectrum(np.zeros(7)) > 0).all()


def test_a_matrix_has_a_square_per_entry():
    picture = matrix(np.array([[1.0, 0.5], [np.nan, 0.0]]))
    assert picture.shape == (256, 256)
    assert picture[::128, ::128].tolist() == [[0, 128], [215, 255]]


def test_pictures_are_png(tmp_path):
    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(0).integers(0, 256, (5, 9), np.uint8)
    (tmp_path / "x.png").write_bytes(png(picture))
    with image.open(tmp_path / "x.png") as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
