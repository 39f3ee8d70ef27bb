"""What the executor on Ray does with Ray, in the place of which stands a module of a few lines."""

import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rlop.data import load_dataset
from rlop.sweep import cluster
from rlop.sweep.cluster import Cluster, Needs, is_mapped, train_task
from rlop.sweep.driver import drive
from rlop.sweep.launches import Launch
from rlop.sweep.plan import Plan, write_plan
from rlop.training import lock
from rlop.types import InputError, Interrupted

HOST = "here"


class RayError(Exception):
    pass


class WorkerCrashedError(RayError):
    pass


class OutOfMemoryError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


class Task:
    """A reference to the result of a task."""

    def __init__(self, folder, key, launch, data):
        self.launch, self.data = launch, data


class FakeRay:
    """Runs a task when its result is asked for.

    Args:
        results: launch -> what its tries do in turn: an exit code, or an error.
        cpus: of its only node.
    """

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, OutOfMemoryError=OutOfMemoryError
    )

    def __init__(self, results, cpus=2.0):
        self.results = results
        self.cpus = cpus
        self.calls = []
        self.stored = []
        self.options = {}

    def init(self, **options):
        if options["address"] == "nowhere":
            raise ConnectionError("no answer\nat all")
        self.calls.append("init")

    def nodes(self):
        resources = {"CPU": self.cpus, "GPU": 1.0, "memory": 8.0 * 2**30}
        return [
            {"Alive": True, "Resources": resources, "NodeManagerHostname": HOST},
            {"Alive": False, "Resources": {"CPU": 99.0}, "NodeManagerHostname": "gone"},
        ]

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=Task)

    def put(self, data):
        self.stored.append(data.name)
        return f"stored {data.name}"

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        name = reference.launch.name
        self.calls.append((name, reference.data))
        result = self.results[name].pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def cancel(self, reference, force):
        self.calls.append(f"cancel {reference.launch.name}")

    def shutdown(self):
        self.calls.append("shutdown")


def launch_of(name, data="chain", **values):
    return Launch(name, {"data": data, **values}, (), 1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Drive launches on the module; return it."""

    def on(results, launches, cpus=2.0, jobs=None, needs=None, address="local"):
        ray = FakeRay(results, cpus)
        monkeypatch.setitem(sys.modules, "ray", ray)
        plan = Plan((), 1, tuple(launches))
        drive(plan, tmp_path, Cluster(plan, tmp_path, address, jobs, needs or Needs()))
        return ray

    return on


def test_data_are_stored_once_for_all_launches_that_use_them(run):
    launches = [launch_of("a"), launch_of("b"), launch_of("c", "chain?steps=50")]
    ray = run({name: [0] for name in "abc"}, launches)
    assert ray.stored == ["chain", "chain?steps=50"]
    assert ("b", "stored chain") in ray.calls
    assert ray.calls[-1] == "shutdown"


def test_a_launch_whose_worker_is_lost_is_tried_again(run):
    ray = run({"a": [WorkerCrashedError(), OutOfMemoryError(), 0]}, [launch_of("a")])
    assert [call[0] for call in ray.calls if isinstance(call, tuple)] == ["a"] * 3


@pytest.mark.parametrize(
    ("tries", "message"),
    [
        ([OutOfMemoryError()] * 3, "a: killed for its memory 3 times"),
        ([WorkerCrashedError()] * 3, "a: worker crashed 3 times"),
        ([RayTaskError(InputError("no\nfolder"))], "a: no folder"),
    ],
)
def test_a_launch_that_cannot_end_is_named_and_the_others_end(run, tries, message):
    with pytest.raises(InputError, match=message) as raised:
        run({"a": list(tries), "b": [0]}, [launch_of("a"), launch_of("b")])
    assert "1 of 2 trainings failed" in str(raised.value)


def test_data_that_cannot_be_read_fail_their_launches_alone(run):
    launches = [launch_of("a", "nothing.npz"), launch_of("b")]
    with pytest.raises(InputError, match=r"1 of 2 .* a: .*nothing\.npz"):
        run({"b": [0]}, launches)


def test_a_signal_cancels_what_runs_and_lets_it_end(run, monkeypatch):
    ended = Cluster.ended

    def interrupted(self, seconds):
        if len(self.running) == 2 and not any("cancel" in str(call) for call in self.ray.calls):
            os.kill(os.getpid(), signal.SIGTERM)
            return []
        return ended(self, seconds)

    monkeypatch.setattr(Cluster, "ended", interrupted)
    names = ["a", "b", "c"]
    results = {name: [130] for name in names}
    with pytest.raises(Interrupted):
        run(results, [launch_of(name) for name in names])
    assert results["c"] == [130]  # was never started


@pytest.mark.parametrize(
    ("needs", "slots"),
    [
        (Needs(), 2),
        (Needs(cpus=0.5), 4),
        (Needs(gpus=0.5), 2),
        (Needs(cpus=0.25, gpus=0.25), 4),
        (Needs(memory=6), 1),
        (Needs(cpus=3), 0),
        (Needs(gpus=2), 0),
    ],
)
def test_a_node_holds_as_many_launches_as_all_of_its_resources_allow(needs, slots):
    node = {"CPU": 2.0, "GPU": 1.0, "memory": 8.0 * 2**30}
    assert needs.on(node) == slots


def test_what_a_launch_needs_is_asked_of_ray(run):
    ray = run({"a": [0]}, [launch_of("a")], needs=Needs(1, 0.5, 2))
    assert (ray.options["num_cpus"], ray.options["num_gpus"]) == (1, 0.5)
    assert ray.options["memory"] == 2 * 2**30
    assert ray.options["max_calls"] == 1  # a process for each


def test_a_cluster_that_cannot_be_used_is_one_line(run, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no node has 3 CPUs"):
        run({}, [launch_of("a")], needs=Needs(cpus=3))
    with pytest.raises(InputError, match=r"no cluster of Ray answers \(no answer at all\)"):
        run({}, [launch_of("a")], address="nowhere")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1: no cluster of Ray answers"):
        run({}, [launch_of("a")], address="127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'rlop\[sweep\]'"):
        Cluster(Plan((), 1, ()), tmp_path, "local", None, Needs())


def test_a_node_without_the_folder_says_so(tmp_path, monkeypatch):
    ray = FakeRay({})
    ray.util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.7")
    monkeypatch.setitem(sys.modules, "ray", ray)
    launch = launch_of("a")
    plan = Plan((), 1, (launch,))
    for there in (None, Plan((), 2, (launch,))):
        if there is not None:
            write_plan(there, tmp_path)
        with pytest.raises(InputError, match=r"on node 10\.0\.0\.7 found no plan of this sweep"):
            train_task(str(tmp_path), plan.key, launch, None)


def test_a_try_goes_on_after_one_whose_node_is_gone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", FakeRay({}))
    trained = []
    monkeypatch.setattr(cluster, "train_launch", lambda *given: trained.append(given) or 0)
    launch = launch_of("a")
    plan = Plan((), 1, (launch,))
    write_plan(plan, tmp_path)

    held = tmp_path / "a" / ".lock"
    held.mkdir(parents=True)
    (held / "7-123-gone").touch()
    assert lock.is_held(tmp_path / "a")
    assert train_task(str(tmp_path), plan.key, launch, None) == 0
    assert not lock.is_held(tmp_path / "a")

    # A process on a node that is there keeps its lock.
    (held / f"7-123-{HOST}").touch()
    train_task(str(tmp_path), plan.key, launch, None)
    assert lock.is_held(tmp_path / "a")


def test_mapped_files_are_not_copied_into_the_store(tmp_path):
    data = load_dataset("chain")
    assert not is_mapped(data)
    np.save(tmp_path / "obs.npy", data.obs)
    data.obs = np.load(tmp_path / "obs.npy", mmap_mode="r")
    assert is_mapped(data)
