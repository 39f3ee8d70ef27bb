"""Graphs against eager updates, the GPU against the CPU, waits of the host, a resumed training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rlop.agents import BC, CQL, DQN, DiscreteCQL, NeuralTD
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rlop.agent import Agent
from rlop.data import Dataset
from rlop.data.sampler import Streams, Table
from rlop.training.checkpoint import load_agent
from rlop.training.session import train
from scripts.bench.gpu.speed import CQL as CQL_PROBLEM
from scripts.bench.gpu.speed import DQN_256, turn_of
from scripts.bench.gpu.timing import HOW, LAUNCH, Effort, Row, loop_of, wait
from scripts.bench.problems import transitions

ROWS = 5000
UPDATES = 64  # of a comparison
UNHINDERED = 200  # updates in which the host must not wait
PROFILED = 64
DR3 = {"regularizers": {"dr3": 0.01}}
BALL = {"projections": {"max_norm": 5.0}}


class Case(NamedTuple):
    """An agent to be compared.

    Args:
        name: in the tables.
        agent: its class.
        options: of the agent.
        continuous: whether actions are.
    """

    name: str
    agent: type[Agent]
    options: Mapping[str, Any]
    continuous: bool = False

    def data(self) -> Dataset:
        """Return random transitions."""
        return transitions(CQL_PROBLEM if self.continuous else DQN_256, ROWS)

    def make(self, data: Dataset, runs: int, device: str) -> Agent:
        """Build the agent."""
        return self.agent(data.spec, seeds=runs, device=device, **self.options)


COMPARED = [
    Case("DQN", DQN, {"target_period": LAUNCH, "backup": "double"}),
    Case("DQN, DR3, max-norm", DQN, {"target_period": LAUNCH, **DR3, **BALL}),
    Case("discrete CQL, DR3", DiscreteCQL, {"target_period": 8, **DR3}),
    Case("CQL", CQL, {}, continuous=True),
    Case("CQL, DR3, max-norm", CQL, {**DR3, **BALL}, continuous=True),
    Case("CQL, Lagrange form", CQL, {"lagrange": "corl", "backup": "max_then_min"}, True),
    Case("BC, discrete", BC, {"label_noise": {"probability": 0.1}}),
    Case("BC, density", BC, {"loss": "nll"}, continuous=True),
    Case("Neural TD, max-norm", NeuralTD, {"target_noise": {"scale": 0.1, "kind": "sign"}}),
]


def equality(case: Case, effort: Effort) -> Iterator[Row]:
    """Compare 64 updates recorded and eager, and one update on the GPU and on the CPU."""
    data = case.data()
    for runs in (1, 8):
        trained = {}
        for how, launch in HOW.items():
            agent = case.make(data, runs, effort.device)
            loop = loop_of(agent, data, launch)
            while loop.step < UPDATES:
                loop.advance()
            trained[how] = tensors_of(agent.state_dict())
        wait(effort.device)
        eager, graph = trained.values()

        yield {
            "case": case.name,
            "R": runs,
            "updates": UPDATES,
            "graph equals eager to the bit": all_equal(graph, eager),
            "largest difference": difference(graph, eager),
            "metrics differ, GPU and CPU": difference(
                *first_metrics(case, data, runs, effort.device), least=1.0
            ),
        }


def first_metrics(
    case: Case, data: Dataset, runs: int, device: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the metrics of the first update on one batch, on the device and on the CPU.

    Losses and gradient norms are among them.
    """
    agents = [case.make(data, runs, place) for place in (device, "cpu")]
    for agent in agents:
        columns = agent.prepare(data).columns()
    seeds, size, shapes = agents[0].runs.seeds, agents[0].batch_size, agents[0].noise
    rows, noise = Streams(seeds, size, len(columns["reward"]), shapes).next()

    found = []
    for agent in agents:
        place = agent.device
        moved = {name: values.to(place) for name, values in noise.items()}
        batch = Table(columns, place).gather(rows.to(place))
        metrics = agent.update(batch, moved)
        found.append({name: value.cpu() for name, value in metrics.items()})
    return found[0], found[1]


def tensors_of(state: object, name: str = "") -> dict[str, Tensor]:
    """Return copies of all tensors in nested containers, by their path."""
    if isinstance(state, Tensor):
        return {name: state.detach().clone()}
    items: Iterable[tuple[object, object]] = ()
    if isinstance(state, Mapping):
        items = state.items()
    elif isinstance(state, (list, tuple)):
        items = enumerate(state)

    found: dict[str, Tensor] = {}
    for key, value in items:
        found |= tensors_of(value, f"{name}/{key}")
    return found


def all_equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Return whether all tensors are equal to the bit."""
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor], least: float = 1e-12) -> float:
    """Return the largest difference of a tensor, relative to its largest value.

    Args:
        a: name -> tensor.
        b: the same names, which may be more.
        least: a tensor of smaller values is compared with this. For metrics it is 1, because some
            are 0 up to rounding, as the mean Q of a symmetric network, and any two roundings differ
            by all that they are.
    """
    found = []
    for name, tensor in a.items():
        if tensor.is_floating_point():
            size = b[name].abs().amax().clamp_min(least)
            found.append(float((tensor - b[name]).abs().amax() / size))
    return float(np.max(found))  # NaN if one is, which Python's own max would pass over


def resume(case: Case, effort: Effort) -> Iterator[Row]:
    """Continue from a checkpoint: the same bits as an uninterrupted training."""
    data = case.data()
    whole, first, second = (case.make(data, 2, effort.device) for _ in range(3))
    options: dict[str, Any] = {"updates_per_launch": LAUNCH, "log_every": LAUNCH, "compile": False}
    options |= {"probe_every": 0, "checkpoint_every": 0, "progress": False}
    train(whole, data, 2 * UPDATES, **options)
    with tempfile.TemporaryDirectory() as folder:
        train(first, data, UPDATES, logdir=folder, **options)
        on_cpu, _ = load_agent(Path(folder) / "checkpoint.pt", "cpu")
        train(second, data, 2 * UPDATES, logdir=folder, resume=True, **options)

    expected = tensors_of(whole.state_dict())
    saved = tensors_of(first.state_dict())
    loaded = tensors_of(on_cpu.state_dict())
    yield {
        "case": case.name,
        "resumed equals uninterrupted to the bit": all_equal(
            tensors_of(second.state_dict()), expected
        ),
        "read on the CPU to the bit": all_equal(
            {name: tensor.cpu() for name, tensor in saved.items()}, loaded
        ),
    }


def waits(how: str, effort: Effort) -> Iterator[Row]:
    """Train while PyTorch raises an error at every wait of the host, then count in a profile."""
    for problem in (CQL_PROBLEM, DQN_256):
        data = transitions(problem, ROWS)
        turn = turn_of(problem, data, 1, HOW[how], effort.device)
        for _ in range(2):
            turn()
        wait(effort.device)

        done = 0
        torch.cuda.set_sync_debug_mode("error")
        try:
            while done < UNHINDERED:
                done += turn()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        row: Row = {"case": problem.name, "how": how, "updates without a wait": done}
        yield {**row, **profiled(turn, effort.device)}


def profiled(turn: Any, device: str) -> Row:
    """Return what a profile says of one update: waits, launches and time of the kernels."""
    done = 0
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        while done < PROFILED:
            done += turn()
    wait(device)

    counts = {"launches": 0.0, "copies to the host": 0.0, "waits": 0.0, "kernels": 0.0}
    busy = 0.0
    for event in record.key_averages():
        on_device = event.device_type == torch.autograd.DeviceType.CUDA
        if event.key in ("cudaLaunchKernel", "cudaLaunchKernelExC", "cudaGraphLaunch"):
            counts["launches"] += event.count
        if "DtoH" in event.key:
            counts["copies to the host"] += event.count
        # The profiler itself waits for the device once, when it ends.
        if event.key in ("cudaStreamSynchronize", "cudaEventSynchronize"):
            counts["waits"] += event.count
        if on_device:
            counts["kernels"] += event.count
            busy += event.self_device_time_total
    row: Row = {f"{name} / update": count / done for name, count in counts.items()}
    return {**row, "microseconds of kernels / update": busy / done}


EQUALITY = [partial(equality, case) for case in COMPARED]
RESUME = [partial(resume, COMPARED[i]) for i in (1, 4)]
WAITS = [partial(waits, how) for how in HOW]
