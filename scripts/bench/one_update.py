"""Time updates in the checkout that PYTHONPATH names, whenever a line on stdin asks for it.

`scripts.bench.against` starts this file as a separate process. It imports nothing from the
benchmark, and from rlop only names that old and new checkouts share, so that it runs on both.

    PYTHONPATH=CHECKOUT python scripts/bench/one_update.py

A line is JSON: a mapping with the fields of `scripts.bench.against.Case` builds an agent, a number
times its update for that many seconds. Each is answered by a line: `ready`, or milliseconds.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

import rlop
from rlop.types import Batch, Spec

WARM_UP = 2  # updates before the clock starts; the first one compiles

Case = dict[str, Any]
Noise = dict[str, torch.Tensor]
Update = Callable[[Batch, Noise], dict[str, torch.Tensor]]


def main() -> None:
    """Answer the lines on stdin until it ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, dict):
            step = prepare(request)
            print("ready", flush=True)
        else:
            print(milliseconds(step, request), flush=True)


def prepare(case: Case) -> Callable[[int], None]:
    """Build the agent of a case and warm it up; return a function that makes its k-th update."""
    torch.manual_seed(0)
    spec = make_spec(case)
    make_agent = agents_module().__dict__[case["agent"]]
    agent = make_agent(spec, seeds=case["runs"], **case["options"])
    batch = make_batch(spec, case["runs"], agent.batch_size)
    noise = make_noise(agent.noise, case["runs"])
    update = compiled(agent.update) if case["compiled"] else agent.update

    def step(count: int) -> None:
        update(batch, noise)
        if count % agent.target_period == 0:
            agent.update_target()

    for count in range(1, WARM_UP + 1):
        step(count)
    return step


def agents_module() -> ModuleType:
    """Import `rlop.agents`, also from an old checkout that finds it only when installed."""
    try:
        return import_module("rlop.agents")
    except ModuleNotFoundError as error:
        if error.name != "rlop.agents":
            raise
    rlop.__path__.append(rlop.__path__[0].rpartition("/")[0])  # the folder that holds agents/
    return import_module("rlop.agents")


def make_spec(case: Case) -> Spec:
    """Describe the data that the agent is made for."""
    dtype = "bool" if case["pixels"] else "float32"
    shape = tuple(case["obs_shape"])
    if case["continuous"]:
        return Spec(shape, action_shape=(case["actions"],), obs_dtype=dtype)
    return Spec(shape, n_actions=case["actions"], obs_dtype=dtype)


def make_batch(spec: Spec, runs: int, size: int) -> Batch:
    """Draw one batch of random transitions for every run."""
    lead = (runs, size)
    if spec.obs_dtype == "bool":
        obs = torch.rand(2, *lead, *spec.obs_shape) > 0.8
    else:
        obs = torch.randn(2, *lead, *spec.obs_shape)
    if spec.n_actions is None:
        action = 2 * torch.rand(*lead, *spec.action_shape) - 1
    else:
        action = torch.randint(spec.n_actions, lead)
    return Batch(
        obs=obs[0],
        action=action,
        reward=torch.randn(lead),
        next_obs=obs[1],
        terminated=torch.zeros(lead),
        discount=torch.ones(lead),
        index=torch.arange(size).expand(lead).contiguous(),
        extra={},
    )


def make_noise(shapes: dict[str, tuple[str, tuple[int, ...]]], runs: int) -> Noise:
    """Draw the random numbers of one update; every update uses the same ones."""
    draws = {"uniform": torch.rand, "normal": torch.randn}
    return {name: draws[kind](runs, *shape) for name, (kind, shape) in shapes.items()}


def compiled(update: Update) -> Update:
    """Compile an update with the settings of rlop's training loop."""
    graph = torch.compile(update, fullgraph=True, isolate_recompiles=True)

    def run(batch: Batch, noise: Noise) -> dict[str, torch.Tensor]:
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            return graph(batch, noise)

    return run


def milliseconds(step: Callable[[int], None], seconds: float) -> float:
    """Return the processor time of one update, measured for about `seconds`."""
    count = 0
    started = time.process_time()
    while time.process_time() - started < seconds:
        count += 1
        step(count)
    return (time.process_time() - started) / count * 1e3


if __name__ == "__main__":
    main()
