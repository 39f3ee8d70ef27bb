"""Fast ways to run the same update: compiled into one graph, and on a GPU several per launch."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rlop.agent import Agent, Noise
from rlop.training.direct import Code, call_and_look
from rlop.training.options import TrainOptions
from rlop.training.sums import Sums
from rlop.types import Batch, InputError

MAX_UPDATES = 32  # in a launch

# Takes a batch, or its rows [R, B], and noise; changes the agent and the sums in place.
Update: TypeAlias = Callable[[Any, Noise], Any]


class Forms(NamedTuple):
    """The forms of an update: of all learners, and without those that are delayed.

    Args:
        whole: update of all learners.
        partial: update without the delayed ones.
        period: gradient steps from one whole update to the next.
    """

    whole: Update
    partial: Update
    period: int

    def after(self, steps: int) -> Update:
        """Return the form of the update that follows so many gradient steps."""
        return self.whole if steps % self.period == 0 else self.partial


def launch_size(intervals: Sequence[int], target_period: int, policy_period: int = 1) -> int:
    """Return how many updates fit into one launch.

    Everything that happens between updates must fall between launches. The result is the largest K
    up to `MAX_UPDATES` that divides every interval and is a multiple or a divisor of
    `target_period`.

    Args:
        intervals: intervals in gradient steps, 0 for never.
        target_period: gradient steps between updates of the target network, which may lie within a
            launch.
        policy_period: gradient steps between whole updates, of which every launch has as many.
    """
    common = math.gcd(*intervals)
    for size in range(min(MAX_UPDATES, common or MAX_UPDATES), 1, -1):
        if common % size == 0 and fits_periods(size, target_period, policy_period):
            return size
    return 1


def fits_periods(size: int, target_period: int, policy_period: int) -> bool:
    """Return whether all launches of a size are alike; see `launch_size`."""
    fits_target = size % target_period == 0 or target_period % size == 0
    return fits_target and size % policy_period == 0


def updates_per_launch(
    options: TrainOptions, reset_every: int, agent: Agent, launches: bool, on_disk: bool
) -> int:
    """Return how many updates go into one launch.

    Args:
        options: the schedule.
        reset_every: gradient steps between resets.
        agent: the agent that is trained.
        launches: whether launches pay.
        on_disk: whether batches come from disk, where the data are not in memory.
    Raises:
        InputError: if the configured number does not fit the intervals.
    """
    asked = options.updates_per_launch
    if asked > 1 and agent.device.type == "cuda" and on_disk:
        raise InputError(
            f"updates_per_launch = {asked}: on CUDA expected data in memory, not on disk"
        )

    intervals = [
        options.steps,
        reset_every,
        options.log_every,
        options.probe_every,
        options.eval_every,
        options.checkpoint_every,
        options.reload_every,
    ]
    periods = (agent.target_period, agent.policy_period)
    if asked:
        divides = all(every % asked == 0 for every in intervals)
        if not divides or not (asked == 1 or fits_periods(asked, *periods)):
            delayed = f" and a multiple of policy_period = {periods[1]}" if periods[1] > 1 else ""
            raise InputError(
                f"updates_per_launch = {asked}: expected a divisor of steps and all "
                f"intervals ({intervals}) and a divisor or a multiple of "
                f"target_period = {periods[0]}{delayed}"
            )
        return asked
    return launch_size(intervals, *periods) if launches and not on_disk else 1


class Launch:
    """K updates as one call.

    On CUDA the first call records a graph, and every call replays it: one launch instead of
    hundreds for each of the K updates. On other devices the updates run one after another, with the
    same numbers.

    Args:
        agent: its target network moves every `target_period` steps, within the launch where K is a
            multiple of it.
        forms: of one update, plain or compiled.
        size: K, a multiple of the period of the forms, or 1.
        sums: of the metrics, if the update adds to some.
    """

    def __init__(self, agent: Agent, forms: Forms, size: int, sums: Sums | None = None) -> None:
        self.agent = agent
        self.forms = forms
        self.size = size
        self.sums = sums
        self.moves_target = size % agent.target_period == 0
        self.records = agent.device.type == "cuda" and size > 1
        self.recorded: Update | None = None

    def __call__(self, rows: Any, noise: Noise) -> None:
        """Update the agent K times."""
        if self.records and self.recorded is None:
            self.recorded = record(self, rows, noise)
        run = self.recorded or self.updates
        run(rows, noise)

    def updates(self, rows: Any, noise: Noise) -> None:
        """Make the K updates, one after another."""
        steps = zip(rows, *noise.values(), strict=True)
        for k, (rows_of_one, *noise_of_one) in enumerate(steps):
            update = self.forms.after(k)
            update(rows_of_one, dict(zip(noise, noise_of_one)))
            if self.moves_target and (k + 1) % self.agent.target_period == 0:
                self.agent.update_target()


def record(launch: Launch, rows: Tensor, noise: Noise) -> Update:
    """Record a CUDA graph of a launch; return a function that replays it.

    The graph reads its inputs from fixed buffers. PyTorch requires one run on a side stream before
    recording; what that changes is restored afterwards.

    Args:
        launch: of K updates.
        rows: `[K, R, B]`, an example.
        noise: name -> `[K, R, ...]`, an example.
    """
    fixed_rows = rows.clone()
    fixed_noise = {name: values.clone() for name, values in noise.items()}

    agent = launch.agent
    sums = launch.sums.tensors() if launch.sums is not None else []
    before = copy.deepcopy(agent.state_dict())
    sums_before = [tensor.clone() for tensor in sums]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        launch.updates(fixed_rows, fixed_noise)
    torch.cuda.current_stream().wait_stream(side)
    agent.load_state_dict(before)
    for tensor, values in zip(sums, sums_before):
        tensor.copy_(values)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch.updates(fixed_rows, fixed_noise)

    def replay(rows: Tensor, noise: Noise) -> None:
        fixed_rows.copy_(rows)
        for name, values in noise.items():
            fixed_noise[name].copy_(values)
        graph.replay()

    return replay


def can_compile() -> bool:
    """Return whether this version of PyTorch can compile an update.

    It must trace `torch.autograd.grad` and keep the graphs of different trainings apart.
    """
    isolates = "isolate_recompiles" in inspect.signature(torch.compile).parameters
    return isolates and hasattr(torch._dynamo.config, "trace_autograd_ops")


class Compiled:
    """An update as one graph, gradient and optimizer included.

    PyTorch makes the graph in the first call. Later ones call it directly, see
    `rlop.training.direct`, on the tensors of the first with other rows and noise: the checks and
    lookups around it take longer than a small network's update. So nobody looks whether the graph
    still fits. Whoever changes the shape of a tensor that the update reads makes a new one, and
    whoever replaces a tensor calls `renew`.

    Args:
        update: update of all runs, in place.
        backend: backend of `torch.compile`.
    Raises:
        InputError: if this version of PyTorch cannot compile it, see `can_compile`.
    """

    def __init__(self, update: Update, backend: str = "inductor") -> None:
        if not can_compile():
            raise InputError(
                f"compile = true: PyTorch {torch.__version__} is too old for it; 2.13 is known to "
                "work"
            )

        self.compile_by = torch._dynamo.lookup_backend(backend)
        # The overloads that mypy reads lack the last argument, which the signature has.
        isolated: dict[str, Any] = {"isolate_recompiles": True}
        self.through_pytorch: Any = torch.compile(
            update,
            fullgraph=True,
            # Else sizes that differ from those of an earlier training in the process are symbols.
            dynamic=False,
            backend=self._backend,
            options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe},
            **isolated,
        )
        self.code: Code | None = None  # of the graph
        self.arguments: list[Any] = []
        self.places: list[tuple[int, int]] = []  # of an argument, and of its tensor in an update's

    def __call__(self, batch: Any, noise: Noise) -> Any:
        """Update; return what the update returns."""
        if not self.places:
            return self._first(batch, noise)
        assert self.code is not None
        given = tensors_of(batch, noise)
        for place, source in self.places:
            self.arguments[place] = given[source]
        self.code(self.arguments.copy())
        return None

    def renew(self) -> None:
        """Forget the tensors that the update reads; the next call looks them up."""
        self.arguments, self.places = [], []

    def _first(self, batch: Any, noise: Noise) -> Any:
        with (
            torch._dynamo.config.patch(trace_autograd_ops=True),
            # For small networks a wrapper in Python, its checks of shapes, and an allocation for
            # every buffer cost as much as all kernels.
            torch._inductor.config.patch(
                cpp_wrapper=True, size_asserts=False, memory_planning=True
            ),
        ):
            result = self.through_pytorch(batch, noise)

        if result is None:  # else PyTorch has to put the result together
            given = {id(tensor): i for i, tensor in enumerate(tensors_of(batch, noise))}
            for place, argument in enumerate(self.arguments):
                if id(argument) in given:
                    self.places.append((place, given[id(argument)]))
        return result

    def _backend(self, module: Any, example: list[Tensor]) -> Callable[..., Any]:
        graph = self.compile_by(module, example)

        def call(*arguments: Any) -> Any:
            self.arguments = list(arguments)
            self.code, result = call_and_look(graph, arguments)
            return result

        return call


def tensors_of(batch: Any, noise: Noise) -> list[Any]:
    """Return the tensors in the arguments of an update, always in the same order."""
    if isinstance(batch, Batch):
        fields = batch._asdict()
        extra = fields.pop("extra")
        return [*fields.values(), *extra.values(), *noise.values()]
    return [batch, *noise.values()]
