"""TensorBoard event files, without torch.utils.tensorboard (1.5 s to import) and TensorFlow.

TensorBoard's own `EventFileWriter` imports TensorFlow where that is installed and starts a thread
per file; a file and the record format are enough here.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from rlop.config.overrides import flatten
from rlop.logs.appended import Appended
from rlop.logs.dashboards import layout
from rlop.logs.history import EVENTS
from rlop.logs.pictures import png


class EventWriter:
    """One event file in a folder; what cannot be written waits, see `Appended`."""

    def __init__(self, folder: Path) -> None:
        name = f"{EVENTS}{_next_stamp(folder)}.{os.getpid()}"
        self.name = f"{folder.name}/{name}"
        self.file = Appended(folder / name, is_new=True)
        self._records = RecordWriter(self.file)
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, summary: summary_pb2.Summary, step: int = 0) -> None:
        """Write one summary."""
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: event_pb2.Event) -> None:
        self._records.write(event.SerializeToString())


def _next_stamp(folder: Path) -> int:
    """Return the time in nanoseconds, or a later one if files in the folder are later.

    TensorBoard reads the files of a folder in the order of their names, and a clock may be set
    back between a training and its resume.
    """
    stamp = time.time_ns()
    for path in folder.glob(f"{EVENTS}*"):
        earlier = path.name.removeprefix(EVENTS).split(".")[0]
        if earlier.isdigit():
            stamp = max(stamp, int(earlier) + 1)
    return stamp


def cut_events(logdir: Path, sizes: Mapping[str, int]) -> dict[str, int]:
    """Remove what was written to event files after a checkpoint; return the sizes that are left.

    Args:
        logdir: folder of the training.
        sizes: `FOLDER/FILE` -> bytes at the checkpoint; files that are not named are removed.
    """
    left = {}
    for path in sorted(logdir.glob(f"*/{EVENTS}*")):
        name = f"{path.parent.name}/{path.name}"
        if name not in sizes:
            path.unlink()
            continue
        left[name] = min(sizes[name], path.stat().st_size)
        os.truncate(path, left[name])
    return left


def scalars(values: Mapping[str, float]) -> summary_pb2.Summary:
    """Build one point of several curves."""
    value = summary_pb2.Summary.Value
    points = [value(tag=name, simple_value=number) for name, number in values.items()]
    return summary_pb2.Summary(value=points)


def session_start(hparams: Mapping[str, object]) -> summary_pb2.Summary:
    """Build a row of the hyper-parameter tab from one run's values.

    A value that is not a number, a bool or text is shown as text.
    """
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
    """Build the end of a row: finished or failed, and when."""
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    return _hparams_summary("session_end_info", session_end_info=info)


def hyper_parameters(
    values: Mapping[str, object], config: Mapping[str, object]
) -> dict[str, object]:
    """Return what describes one run: its own values, and the configuration under dotted keys.

    Args:
        values: those that distinguish the run from the others of its training; they replace the
            entries of the configuration with the same last part of the name.
        config: of the training.
    """
    described = {}
    for key, value in flatten(config).items():
        is_replaced = any(f".{key}".endswith(f".{name}") for name in values)
        if key != "logdir" and not is_replaced:
            described[key] = value
    return {**described, **values}


def dashboards() -> summary_pb2.Summary:
    """Build the layout of the tab "Custom Scalars"."""
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="custom_scalars")
    content = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    content.string_val.append(layout().SerializeToString())

    value = summary_pb2.Summary.Value(
        tag="custom_scalars__config__",
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=content,
    )
    return summary_pb2.Summary(value=[value])


def image(tag: str, picture: np.ndarray) -> summary_pb2.Summary:
    """Build a gray picture.

    Args:
        tag: its name.
        picture: uint8 `[height, width]`.
    """
    height, width = picture.shape
    content = summary_pb2.Summary.Image(
        height=height, width=width, colorspace=1, encoded_image_string=png(picture)
    )
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, image=content)])


def film(tag: str, gif: bytes) -> summary_pb2.Summary:
    """Build an animated picture.

    Args:
        tag: its name.
        gif: a GIF, whose header gives width and height (GIF89a, section 18).
    """
    width, height = struct.unpack("<HH", gif[6:10])
    content = summary_pb2.Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=gif
    )
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, image=content)])


def _hparams_summary(tag: str, **content: object) -> summary_pb2.Summary:
    data = plugin_data_pb2.HParamsPluginData(version=0, **content).SerializeToString()
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="hparams", content=data)

    # The content is in the metadata; the tensor only has to exist.
    empty = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    empty.tensor_shape.dim.add(size=0)

    value = summary_pb2.Summary.Value(
        tag=f"_hparams_/{tag}",
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=empty,
    )
    return summary_pb2.Summary(value=[value])
