"""TensorBoard event files, written without torch.utils.tensorboard (1.5 s to import) and without TensorFlow.

TensorBoard's own `EventFileWriter` imports TensorFlow where that is installed and starts a thread per file; a file and
the record format are enough here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


class EventWriter:
    """One event file in a folder; every write reaches the operating system before it returns."""

    def __init__(self, folder: Path) -> None:
        # TensorBoard reads the files of a folder in the order of their names: the time goes first.
        file = open(folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}", "xb")  # noqa: SIM115
        self._records = RecordWriter(file)
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, summary: summary_pb2.Summary, step: int = 0) -> None:
        """Write one summary."""
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def restart(self, step: int) -> None:
        """Tell TensorBoard to forget what was drawn from `step` on, by a process that crashed after its checkpoint."""
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, session_log=log))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, event: event_pb2.Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()


def scalars(values: Mapping[str, float]) -> summary_pb2.Summary:
    """One point of several curves."""
    value = summary_pb2.Summary.Value
    return summary_pb2.Summary(
        value=[value(tag=name, simple_value=number) for name, number in values.items()]
    )


def session_start(hparams: Mapping[str, Any]) -> summary_pb2.Summary:
    """A row of the hyper-parameter tab, from one run's values; what is not a number, bool or text is shown as text."""
    info = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in hparams.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, (int, float)):
            info.hparams[name].number_value = value
        else:
            info.hparams[name].string_value = str(value)
    return _hparams_summary("session_start_info", session_start_info=info)


def session_end(success: bool) -> summary_pb2.Summary:
    """The end of a row: finished or failed, and when."""
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    return _hparams_summary("session_end_info", session_end_info=info)


def experiment(hparams: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> summary_pb2.Summary:
    """The columns of the hyper-parameter tab: every name in `hparams` (one dict per run), then the metrics."""
    names = dict.fromkeys(name for values in hparams for name in values)
    infos = [
        _column(name, [values[name] for values in hparams if name in values]) for name in names
    ]
    shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
    found = api_pb2.Experiment(
        hparam_infos=infos, metric_infos=shown, time_created_secs=time.time()
    )
    return _hparams_summary("experiment", experiment=found)


def _column(name: str, values: list[Any]) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=name, differs=len({str(value) for value in values}) > 1)
    if all(isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_BOOL
        info.domain_discrete.extend(sorted(set(values)))
    elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(sorted({str(value) for value in values}))
    return info


def _hparams_summary(tag: str, **content: Any) -> summary_pb2.Summary:
    data = plugin_data_pb2.HParamsPluginData(version=0, **content).SerializeToString()
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    empty = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    empty.tensor_shape.dim.add(size=0)
    value = summary_pb2.Summary.Value(
        tag=f"_hparams_/{tag}",
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=empty,
    )
    return summary_pb2.Summary(value=[value])
