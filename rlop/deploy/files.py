"""Write a policy as a file that other programs run, and its model card."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlop.config.files import write_atomic
from rlop.deploy.card import card, versions
from rlop.deploy.graph import Graph
from rlop.types import InputError

OPTIONAL = {"onnx": "onnxscript", "safetensors": "safetensors"}  # kind of file -> its package
EXTRA = "export"  # extra of rlop that installs both


def write(graph: Graph, path: str | Path, about: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a policy, and its model card beside it.

    Args:
        graph: of the policy.
        path: `.onnx`, `.pt2` or `.safetensors`.
        about: section -> name -> value, for the card.
    Returns:
        The file.
    Raises:
        InputError: another kind of file, a package that is not installed, a graph that cannot be
            written in this kind, or a folder that cannot be written to.
    """
    path = Path(path).expanduser()
    kind = path.suffix.removeprefix(".")
    if kind not in WRITERS:
        kinds = ", ".join(f".{name}" for name in WRITERS)
        raise InputError(f"{path}: expected a file of kind {kinds}")
    try:
        with _without_remarks():
            data = WRITERS[kind](graph.eval(), about)
    except ImportError:
        raise InputError(
            f"{path}: needs {OPTIONAL.get(kind, kind)}, which is not installed: "
            f'pip install "rlop[{EXTRA}]"'
        ) from None
    except Exception as error:  # whatever tracing the code of somebody's agent leads to
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: {type(graph.agent).__name__}.act cannot be written as a graph "
            f"({type(error).__name__}: {reason})"
        ) from error

    sections = {**about, "interface": interface(graph), "versions": versions()}
    text = card(f"Policy {path.name}", sections)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        write_atomic(path.with_suffix(".md"), text.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written, {error.strerror}") from None
    return path


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence what PyTorch's exporter says of its own parts and of packages it could use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def interface(graph: Graph) -> dict[str, object]:
    """Say what goes into the graph and what comes out."""
    facts: dict[str, object] = {}
    for name, space in graph.inputs.items():
        facts[f"input {name}"] = _described(space)
    space = graph.adapter.action_space
    facts["output action"] = f"{_described(space)}, of {type(space).__name__}"
    return facts


def _described(space: gymnasium.Space) -> str:
    axes = ", ".join(["n", *map(str, space.shape or ())])
    return f"{space.dtype} ({axes})"


def exported(graph: Graph) -> torch.export.ExportedProgram:
    """Trace the graph for any number n of observations."""
    size = torch.export.Dim("n", min=1)
    examples = []
    for space in graph.inputs.values():
        zeros = np.zeros((2, *(space.shape or ())), space.dtype)
        start = space.start if isinstance(space, gymnasium.spaces.Discrete) else 0
        examples.append(torch.from_numpy(zeros + zeros.dtype.type(start)))
    with torch.no_grad():
        shapes = tuple({0: size} for _ in examples)
        return torch.export.export(graph, tuple(examples), dynamic_shapes={"obs": shapes})


def _pt2(graph: Graph, about: Mapping[str, Mapping[str, object]]) -> bytes:
    """Return a file for `torch.export.load(path).module()`."""
    buffer = io.BytesIO()
    torch.export.save(exported(graph), buffer)
    return buffer.getvalue()


def _onnx(graph: Graph, about: Mapping[str, Mapping[str, object]]) -> bytes:
    """Return a file for ONNX Runtime and others, with the parameters inside."""
    program = torch.onnx.export(
        exported(graph),
        dynamo=True,
        input_names=list(graph.inputs),
        output_names=["action"],
        verbose=False,
    )
    assert program is not None  # `dynamo` returns one
    return program.model_proto.SerializeToString()


def _safetensors(graph: Graph, about: Mapping[str, Mapping[str, object]]) -> bytes:
    """Return the parameters of the networks, without the run axis; the metadata says the rest."""
    from safetensors.torch import save

    tensors = {name: _one(value) for name, value in graph.networks.state_dict().items()}
    metadata = {section: json.dumps(facts, default=str) for section, facts in about.items()}
    return save(tensors, metadata)


def _one(value: Tensor) -> Tensor:
    """Drop the run axis of a tensor, if it has one."""
    return value[0].contiguous() if value.ndim else value


WRITERS = {"onnx": _onnx, "pt2": _pt2, "safetensors": _safetensors}
