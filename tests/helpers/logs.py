"""A logger of two runs, and what TensorBoard reads of its files."""

import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from rlop.logs.logger import Logger

LABELS = ["dr3=0/seed=0", "dr3=0.03/seed=0"]
FOLDERS = ["dr3=0_seed=0", "dr3=0.03_seed=0"]
HPARAMS = [
    {"dr3": 0.0, "seed": 0, "double": True},
    {"dr3": 0.03, "seed": 0, "double": True},
]


def logger(folder, **options):
    """A logger of two runs."""
    return Logger(folder, LABELS, HPARAMS, **options)


def record_lines(folder):
    """The lines of a record as dictionaries."""
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def events(folder):
    """Everything TensorBoard finds in the folder of one run."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def points(folder, tag):
    """(step, value) of one curve as TensorBoard draws it."""
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def _hparams_content(folder, tag):
    return events(folder).summary_metadata[f"_hparams_/{tag}"].plugin_data.content


def session_start(folder):
    """The row of a run in the hyper-parameter tab."""
    content = _hparams_content(folder, "session_start_info")
    return metadata.parse_session_start_info_plugin_data(content)


def session_status(folder):
    """How the run of a folder ended: 1 success, 2 failure."""
    content = _hparams_content(folder, "session_end_info")
    return metadata.parse_session_end_info_plugin_data(content).status
