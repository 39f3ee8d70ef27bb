"""Time the update of one agent in the checkout that PYTHONPATH names; print milliseconds as JSON.

`scripts.bench.against` starts this file as a process of its own. It imports nothing of the
benchmark, and of rlop only names that old and new checkouts share, so that it runs on both.

    PYTHONPATH=CHECKOUT python scripts/bench/one_update.py DQN '{"hidden": [256, 256]}' ...
"""

import argparse
import json
import sys
import time
from importlib import import_module

import torch

import rlop
from rlop.types import Batch, Spec

WARM_UP = 2  # updates before the clock starts; the first one compiles


def main() -> None:
    """Build the agent, warm it up, time its updates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent", help="name in rlop.agents")
    parser.add_argument("options", type=json.loads, help="of the agent, as JSON")
    parser.add_argument("--obs-shape", type=json.loads, required=True)
    parser.add_argument("--actions", type=int, required=True)
    parser.add_argument("--continuous", action="store_true")
    parser.add_argument("--pixels", action="store_true", help="observations are booleans")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = make_spec(options)
    agent = agents_module().__dict__[options.agent](spec, seeds=options.runs, **options.options)
    batch = make_batch(spec, options.runs, agent.batch_size)
    noise = make_noise(agent.noise, options.runs)
    update = compiled(agent.update) if options.compiled else agent.update

    def step(count: int) -> None:
        update(batch, noise)
        if count % agent.target_period == 0:
            agent.update_target()

    for count in range(1, WARM_UP + 1):
        step(count)
    print(json.dumps(milliseconds(step, options.seconds)))


def agents_module():
    """Import `rlop.agents`, also from an old checkout that finds it only when installed."""
    try:
        return import_module("rlop.agents")
    except ModuleNotFoundError as error:
        if error.name != "rlop.agents":
            raise
    rlop.__path__.append(rlop.__path__[0].rpartition("/")[0])  # the folder that holds agents/
    return import_module("rlop.agents")


def make_spec(options: argparse.Namespace) -> Spec:
    """Describe the data that the agent is made for."""
    dtype = "bool" if options.pixels else "float32"
    shape = tuple(options.obs_shape)
    if options.continuous:
        return Spec(shape, action_shape=(options.actions,), obs_dtype=dtype)
    return Spec(shape, n_actions=options.actions, obs_dtype=dtype)


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


def make_noise(shapes: dict, runs: int) -> dict[str, torch.Tensor]:
    """Draw the random numbers of one update; every update uses the same ones."""
    draws = {"uniform": torch.rand, "normal": torch.randn}
    return {name: draws[kind](runs, *shape) for name, (kind, shape) in shapes.items()}


def compiled(update):
    """Compile an update with the settings of rlop's training loop."""
    graph = torch.compile(update, fullgraph=True, isolate_recompiles=True)

    def run(batch: Batch, noise: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            return graph(batch, noise)

    return run


def milliseconds(step, seconds: float) -> float:
    """Processor time of one update, over about `seconds` of them."""
    count = 0
    started = time.process_time()
    while time.process_time() - started < seconds:
        count += 1
        step(count)
    return (time.process_time() - started) / count * 1e3


if __name__ == "__main__":
    sys.exit(main())
