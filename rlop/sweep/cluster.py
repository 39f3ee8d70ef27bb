"""Launches as tasks of a Ray cluster, on this machine or on several.

A launch is one task of Ray Core in a worker process of its own. Data in memory are loaded once, by
the sweep, and lie once on each node, in Ray's object store, which all workers there map. Files that
are mapped already are left to the workers: the system shares their pages.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import warnings
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.stacks import Stacks
from rlop.data.joined import Joined
from rlop.sweep.executor import Ended, outcome
from rlop.sweep.launches import Launch
from rlop.sweep.plan import Plan, read_plan
from rlop.sweep.worker import train_launch
from rlop.training import lock
from rlop.training.run import data_of, experiment_of
from rlop.types import InputError

Reference: TypeAlias = Any  # to an object in Ray's store: Ray is imported only where it is used

LOCAL = "local"
PATIENCE = 10.0  # seconds for the first answer of a cluster
GIB = 2**30
# Of the processes that are started here. Workers would run with a low priority, and try for ever
# what needs too much memory; the driver counts tries.
SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_task_oom_retries": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Needs:
    """What a launch takes of a node.

    Args:
        cpus: cores; a share of one, too.
        gpus: GPUs; a share of one, too.
        memory: GiB that are reserved; 0 for no reservation.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 0.0

    def on(self, resources: dict[str, float]) -> int:
        """Return how many launches fit on a node with these resources."""
        fits = [resources.get("CPU", 0.0) // self.cpus]
        if self.gpus:
            fits.append(resources.get("GPU", 0.0) // self.gpus)
        if self.memory:
            fits.append(resources.get("memory", 0.0) // (self.memory * GIB))
        return int(min(fits))


class Cluster:
    """Runs launches as tasks of Ray.

    Args:
        plan: of the sweep.
        folder: of the sweep, which all nodes see.
        address: of a cluster; `local` starts Ray on this machine.
        jobs: launches at a time; None for as many as fit.
        needs: of one launch.
    Raises:
        InputError: Ray is not installed, no cluster answers, or no node is large enough.
    """

    def __init__(
        self, plan: Plan, folder: Path, address: str, jobs: int | None, needs: Needs
    ) -> None:
        self.folder = folder.resolve()
        self.key = plan.key
        self.jobs = jobs
        self.needs = needs
        self.running: dict[Reference, Launch] = {}
        self.settled: list[Ended] = []
        self.data: dict[str, Reference] = {}
        self.users = [_data_key(launch) for launch in plan.launches]  # of data, left to run

        self.ray = _connect(address, needs, jobs)
        if not self._slots():
            self.close()
            raise InputError(
                f"--address {address}: no node has {needs.cpus:g} CPUs, {needs.gpus:g} GPUs and "
                f"{needs.memory:g} GiB, expected --cpus, --gpus and --memory that fit on one"
            )
        # A new process for each launch, whose memory is free afterwards.
        options: dict[str, float] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
        if needs.memory:
            options["memory"] = needs.memory * GIB
        self.task = self.ray.remote(max_calls=1, max_retries=0, retry_exceptions=False, **options)(
            train_task
        )

    def has_room(self) -> bool:
        """Return whether another launch can start."""
        count = len(self.running) + len(self.settled)
        return count < (self.jobs or max(1, self._slots()))

    def _slots(self) -> int:
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        return sum(self.needs.on(node["Resources"]) for node in nodes)

    def start(self, launch: Launch) -> None:
        """Start the task of a launch, with its data."""
        try:
            data = self._shared(launch)
        except InputError as error:
            self.settled.append(Ended(launch, str(error)))
            return
        reference = self.task.remote(str(self.folder), self.key, launch, data)
        self.running[reference] = launch

    def _shared(self, launch: Launch) -> Reference | None:
        """Return the data of a launch in the object store; None where workers load them."""
        key = _data_key(launch)
        if key not in self.data:
            experiment = experiment_of(launch.values, launch.name)
            data = None if experiment.window else data_of(experiment)
            is_whole = isinstance(data, Dataset) and not is_mapped(data)
            self.data[key] = self.ray.put(data) if is_whole else None
        return self.data[key]

    def ended(self, seconds: float) -> list[Ended]:
        """Wait for a task to end, at most so long; return the launches of those that did."""
        found, self.settled = self.settled, []
        if self.running and not found:
            ready, _ = self.ray.wait(list(self.running), timeout=seconds)
            found = [self._result(reference) for reference in ready]
        for ended in found:
            if not ended.can_retry:
                self._forget(_data_key(ended.launch))
        return found

    def _result(self, reference: Reference) -> Ended:
        launch = self.running.pop(reference)
        errors = self.ray.exceptions
        try:
            return outcome(self.folder, launch, self.ray.get(reference))
        except errors.RayTaskError as error:
            return Ended(launch, " ".join(str(error.cause).split()))
        except errors.OutOfMemoryError:
            return Ended(launch, "killed for its memory", can_retry=True)
        except errors.RayError as error:  # the worker or its node is gone, or it was cancelled
            return Ended(launch, _words(type(error).__name__), can_retry=True)

    def _forget(self, key: str) -> None:
        """Free data that no launch needs any more."""
        self.users.remove(key)
        if key not in self.users:
            self.data.pop(key, None)

    def interrupt(self) -> None:
        """Ask all tasks to end: they write a checkpoint first."""
        for reference in self.running:
            self.ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leave the cluster, which ends what still runs; end Ray if it was started here."""
        self.ray.shutdown()


def train_task(folder: str, key: str, launch: Launch, data: Dataset | None) -> int:
    """Train a launch on whatever node this runs; return its exit code.

    Args:
        folder: of the sweep.
        key: of its plan.
        launch: what to train.
        data: read-only, in the node's object store.
    Raises:
        InputError: the node does not see the folder.
    """
    import ray

    plan = read_plan(Path(folder))
    if plan is None or plan.key != key:
        raise InputError(
            f"{folder}: on node {ray.util.get_node_ip_address()} found no plan of this sweep, "
            "expected a folder that all nodes share"
        )
    # An earlier try may have died with its whole node.
    hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    lock.drop_absent(Path(folder) / launch.name, hosts)

    # Nothing is written into data, in the store or elsewhere.
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    return train_launch(Path(folder), launch, data)


def is_mapped(data: Dataset) -> bool:
    """Return whether the observations lie in a mapped file."""
    parts = data.obs.parts if isinstance(data.obs, Joined) else (data.obs,)
    arrays = [part.frames if isinstance(part, Stacks) else part for part in parts]
    return any(isinstance(array, np.memmap) for array in arrays)


def _connect(address: str, needs: Needs, jobs: int | None) -> ModuleType:
    """Join a cluster, or start one on this machine; return Ray."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise InputError(
            f"--address {address}: needs Ray, which is not there: pip install 'rlop[sweep]'"
        ) from None

    _check_answers(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False, "num_cpus": ceil(needs.cpus * (jobs or 1))}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--address {address}: no cluster of Ray answers ({reason})") from None
    return ray


def _check_answers(address: str) -> None:
    """Raise InputError if nobody listens at HOST:PORT, for which Ray itself waits minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: no cluster of Ray answers ({error})") from None


def _data_key(launch: Launch) -> str:
    """Return a text that is the same for launches whose data are."""
    values = [launch.values.get(name) for name in ("data", "data_options", "transforms", "env")]
    return json.dumps([*values, launch.values.get("window")], sort_keys=True, default=str)


def _words(name: str) -> str:
    """Return the name of an error of Ray as words: NodeDiedError -> node died."""
    letters = [f" {letter.lower()}" if letter.isupper() else letter for letter in name]
    return "".join(letters).removesuffix(" error").strip()
