"""The source of the batches of one data set, and the update that takes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rlop.data.dataset import Dataset
from rlop.data.prefetch import Prefetcher
from rlop.data.sampler import Streams, Table
from rlop.training.compile import Forms, Launch
from rlop.types import InputError, Spec

UNITS = ("action_low", "action_high", "action_start")  # of data and agent, where both know them


@dataclass(frozen=True)
class Feed:
    """The source of the batches of one data set, and the update that takes them.

    Args:
        table: the transitions, on the device.
        streams: rows `[R, B]`, or prefetched batches, and the noise of each step.
        plain: one update of every run.
        update: the same, compiled where that pays.
        launch: several updates as one call.
    """

    table: Table
    streams: Streams | Prefetcher
    plain: Forms
    update: Forms
    launch: Launch


def check_data(expected: Spec, data: Dataset) -> None:
    """Check that data have the shapes and units that an agent was made for.

    Args:
        expected: of the agent.
        data: the data set.
    Raises:
        InputError: they differ.
    """
    spec = data.spec
    if spec.shapes != expected.shapes or spec.obs_normalizer != expected.obs_normalizer:
        raise InputError(
            f"data {data.name}: {spec.shapes} is not what the agent was made for: {expected.shapes}"
        )
    units, expected_units = asdict(spec), asdict(expected)
    for key in UNITS:
        of_agent, of_data = expected_units[key], units[key]
        if None not in (of_agent, of_data) and of_agent != of_data:
            raise InputError(
                f"data {data.name}: {key} = {of_data} is not what the agent was made for: "
                f"{of_agent}"
            )
