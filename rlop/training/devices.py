"""The runs of a training split over devices: on each an ordinary training, in its own process.

Every part has a folder of its own, `LOGDIR/device-0`, `LOGDIR/device-1`, ..., with its record and
its checkpoint; `rlop report LOGDIR` and `rlop ls LOGDIR` read all of them. A single run is never
split: the networks are too small for that.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rlop.config.files import dump_yaml, overrides_only
from rlop.logs.history import RECORD, History, read_metrics
from rlop.logs.messages import LOGGER, say
from rlop.logs.progress import Progress
from rlop.runs import seed_list
from rlop.training.folder import RunFolder, how_to_resume, new_folder
from rlop.training.interrupt import StopSignal
from rlop.training.options import Experiment
from rlop.training.run import pick_device, run
from rlop.types import InputError

PART = "device-"
POLL = 0.2  # seconds between looks at the processes
TAIL = 1 << 16  # bytes at the end of a file that hold its last line
ITSELF = ("logdir", "resume", "fork", "devices", "device")  # each part gets its own
# A process that ends with this one, and is `rlop train` otherwise.
CHILD = (
    "import sys; from rlop.cli import main; from rlop.training.parent import end_with_parent; "
    "end_with_parent(); sys.exit(main(['train', *sys.argv[1:]]))"
)
CODE = Path(__file__).resolve().parents[2]  # of a checkout, or where packages are installed


@dataclass(frozen=True)
class Part:
    """The runs of one device.

    Args:
        folder: of the training.
        device: that trains them.
        values: of its configuration.
    """

    folder: Path
    device: str
    values: dict[str, Any]

    def beside(self, suffix: str) -> Path:
        """Return a file beside the folder, such as its log."""
        return self.folder.with_name(f"{self.folder.name}{suffix}")


def device_list(devices: int | str | Sequence[int | str]) -> list[str]:
    """Return the names of devices: `0` and `"0"` mean `cuda:0`, texts are split at commas.

    Raises:
        InputError: none.
    """
    listed = devices.split(",") if isinstance(devices, str) else devices
    texts = [str(item).strip() for item in ([listed] if isinstance(listed, int) else listed)]
    if not texts or "" in texts:
        raise InputError(f"devices = {devices}: expected devices such as 0,1 or cpu,cpu")
    return [f"cuda:{text}" if text.isdecimal() else text for text in texts]


def parts_of(experiment: Experiment, home: Path) -> list[Part]:
    """Split seeds or variants over the devices, in order, as evenly as they can be.

    Args:
        experiment: with `devices`.
        home: folder of all parts.
    Raises:
        InputError: fewer seeds and fewer variants than devices, or an option that looks at all
            runs together.
    """
    devices = device_list(experiment.devices or ())
    if experiment.early_stopping is not None:
        raise InputError(f"devices = {devices}: early_stopping looks at all runs; expected neither")
    if experiment.fork is not None:
        raise InputError(f"devices = {devices}: expected no fork; fork the folder of each device")

    axes: dict[str, list[Any]] = {"seeds": seed_list(experiment.seeds)}
    axes["variants"] = list((experiment.variants or {}).items())
    fitting = {name: items for name, items in axes.items() if len(items) >= len(devices)}
    if not fitting:
        raise InputError(
            f"devices = {devices}: {len(axes['seeds'])} seeds, {len(axes['variants'])} variants, "
            "expected as many of either as devices; one run is never split, and `rlop sweep` "
            "spreads other values"
        )
    name = min(fitting, key=lambda key: _imbalance(len(fitting[key]), len(devices)))
    items = fitting[name]

    shared = {key: value for key, value in overrides_only(experiment).items() if key not in ITSELF}
    ends = [round(len(items) * part / len(devices)) for part in range(len(devices) + 1)]
    parts = []
    for number, (device, (start, end)) in enumerate(zip(devices, pairwise(ends))):
        chosen = items[start:end]
        folder = home / f"{PART}{number}"
        own = {name: dict(chosen) if name == "variants" else chosen, "device": device}
        values = {**shared, **own, "logdir": str(folder), "resume": True}
        parts.append(Part(folder, device, values))
    return parts


def _imbalance(items: int, devices: int) -> float:
    """Return the largest share of a device, relative to an even one."""
    return math.ceil(items / devices) * devices / items


def train_runs(experiment: Experiment, name: str = "run") -> tuple[list[History], Path]:
    """Train all runs of a configuration, in this process or on several devices.

    Args:
        experiment: the configuration.
        name: beginning of the name of the folder, if the configuration gives none.
    Returns:
        The record of each training, and the folder of all.
    """
    if experiment.devices is not None:
        return run_on_devices(experiment, name)
    _, history, folder = run(experiment, name)
    return [history], folder


def run_on_devices(experiment: Experiment, name: str = "run") -> tuple[list[History], Path]:
    """Train on every device, and wait for all.

    Args:
        experiment: with `devices`.
        name: beginning of the name of the folder, if the configuration gives none.
    Returns:
        The record of each part, and the folder of all.
    Raises:
        InputError: devices that cannot be used, or do not fit the runs or the folder; a part that
            failed, after the others have ended.
        Interrupted: by a signal, after every part has saved.
    """
    for device in device_list(experiment.devices or ()):
        pick_device(device)
    parts_of(experiment, Path())  # before a folder is made

    resume, logdir = experiment.resume, experiment.logdir
    given = resume if isinstance(resume, str) else logdir
    home = new_folder("runs", name) if given is None else Path(given).expanduser()
    parts = parts_of(experiment, home)
    with RunFolder(home, is_new=given is None) as folder:
        _check(folder, parts, bool(resume))
        continued = overrides_only(experiment)
        folder.write_config({key: continued[key] for key in continued if key not in ITSELF[:3]})
        devices = ", ".join(part.device for part in parts)
        say(f"{len(parts)} processes, on {devices}; what they print is in {home}/{PART}*.log")
        _train(home, parts, experiment.steps)
    return [read_metrics(part.folder) for part in parts], home


def _check(folder: RunFolder, parts: Sequence[Part], resume: bool) -> None:
    """Check that a folder holds no training, or the parts that are to be resumed."""
    folder.check_empty()
    there = sorted(path.parent.name for path in folder.path.glob(f"{PART}*/{RECORD}"))
    if there and not resume:
        raise InputError(
            f"{folder.path}: already holds {', '.join(there)}: expected another logdir, or resume"
        )
    unknown = set(there) - {part.folder.name for part in parts}
    if unknown:
        raise InputError(
            f"{folder.path}: was split over more devices, {', '.join(there)}; expected as many"
        )


def _train(home: Path, parts: Sequence[Part], steps: int) -> None:
    """Start the processes, show how far the slowest is, and wait for all of them."""
    is_quiet = not LOGGER.isEnabledFor(logging.INFO)
    processes: list[subprocess.Popen[bytes]] = []
    with StopSignal() as stop, Progress(steps, False if is_quiet else None) as bar:
        try:
            for part in parts:
                processes.append(_start(part))
            while any(process.poll() is None for process in processes):
                time.sleep(POLL)
                bar.update(min(last_step(part.folder) for part in parts))
                stop.leave()
        except BaseException:
            for process in processes:
                process.send_signal(signal.SIGINT)  # nothing for one that has ended
            for process in processes:
                process.wait()
            say(f"interrupted; it continues with: {how_to_resume(home)}", logging.WARNING)
            raise
        finally:
            for process in processes:
                if process.stdin is not None:
                    process.stdin.close()

    failed = [
        f"{part.folder} ({part.device}): {_reason(part, process.returncode)}"
        for part, process in zip(parts, processes)
        if process.returncode
    ]
    if failed:
        raise InputError(f"{'; '.join(failed)}; it continues with: {how_to_resume(home)}")


def _start(part: Part) -> subprocess.Popen[bytes]:
    """Start the process of a part, with its configuration and its output in files beside it."""
    config = part.beside(".yaml")
    dump_yaml(part.values, config)
    paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
    with open(part.beside(".log"), "ab") as log:
        # Ctrl-C in a terminal reaches this process alone, which passes it on.
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(config)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )


def _reason(part: Part, code: int) -> str:
    """Return why a process failed: its last line, or the signal that ended it."""
    if code < 0:
        return f"ended by signal {-code}"
    lines = _tail(part.beside(".log")).strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"


def last_step(folder: Path) -> int:
    """Return the last step that a training has logged; 0 before the first."""
    for line in reversed(_tail(folder / RECORD).splitlines()):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, LookupError, TypeError):  # not yet whole
            continue
    return 0


def _tail(path: Path) -> str:
    """Return the end of a file; "" where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
