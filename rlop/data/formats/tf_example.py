"""Read tf.train.Example messages, in the wire format of protocol buffers, without their packages.

An Example holds Features (field 1), a map (field 1) from a name (field 1) to a Feature (field 2),
which is a list of bytes (field 1), of floats (field 2) or of int64 (field 3).

Reference: example.proto and feature.proto in tensorflow/core/example;
    protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

# Wire types.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10  # bytes
# Fields of a message, or integers of a list. An episode of Atari has 27,000 frames at most, and a
# file made to exhaust the memory holds many more.
MOST = 1 << 20

Feature: TypeAlias = "list[memoryview] | np.ndarray"
Field: TypeAlias = "tuple[int, int | memoryview]"  # number, value


class WireError(ValueError):
    """Bytes that are no message of this kind."""


def read_example(content: bytes) -> dict[str, Feature]:
    """Return the features of an Example by name.

    Args:
        content: of a record; views of it are returned, not copies.

    Returns:
        A list of bytes, or an array `[n]` of float32 or int64; an empty array for an empty feature.

    Raises:
        WireError: bytes that are no Example.
    """
    features: dict[str, Feature] = {}
    for number, value in fields(memoryview(content)):
        if number == 1:
            for entry_number, entry in fields(_bytes(value)):
                if entry_number == 1:
                    name, feature = _entry(_bytes(entry))
                    features[name] = feature
    return features


def _entry(content: memoryview) -> tuple[str, Feature]:
    """Return the name and the values of one entry of the map."""
    name = ""
    feature: Feature = np.empty(0, np.int64)
    for number, value in fields(content):
        if number == 1:
            try:
                name = str(_bytes(value), "utf-8")
            except UnicodeDecodeError:
                raise WireError("a name that is no text") from None
        elif number == 2:
            feature = _feature(_bytes(value))
    return name, feature


def _feature(content: memoryview) -> Feature:
    """Return the values of a Feature."""
    feature: Feature = np.empty(0, np.int64)
    for number, value in fields(content):
        if number == 1:
            feature = [_bytes(item) for key, item in fields(_bytes(value)) if key == 1]
        elif number == 2:
            feature = _floats(_bytes(value))
        elif number == 3:
            feature = _integers(_bytes(value))
    return feature


def _floats(content: memoryview) -> np.ndarray:
    """Return a list of floats, packed or one by one, `[n]` float32."""
    parts = [bytes(_bytes(value)) for number, value in fields(content) if number == 1]
    joined = b"".join(parts)
    if len(joined) % 4:
        raise WireError("floats that are cut short")
    return np.frombuffer(joined, "<f4").astype(np.float32, copy=False)


def _integers(content: memoryview) -> np.ndarray:
    """Return a list of int64, packed or one by one, `[n]` int64."""
    values: list[int] = []
    for number, value in fields(content):
        if number != 1:
            continue
        if isinstance(value, int):
            values.append(value)
        else:
            values += _varints(value)
    return np.array(values, np.uint64).astype(np.int64)


def _varints(content: memoryview) -> list[int]:
    """Return packed integers."""
    if len(content) > LONGEST_VARINT * MOST:
        raise WireError(f"a list of integers of {len(content):,} bytes")
    data = bytes(content)
    if max(data, default=0) < 128:
        return list(data)  # one byte each, as actions are

    values: list[int] = []
    at = 0
    while at < len(data):
        value, at = varint(content, at)
        values.append(value)
    return values


def fields(content: memoryview) -> Iterator[Field]:
    """Yield the number and the value of every field of a message, in order.

    A value is an integer for a varint, and otherwise the bytes.

    Raises:
        WireError: bytes that are no message.
    """
    at = count = 0
    size = len(content)
    while at < size:
        count += 1
        if count > MOST:
            raise WireError(f"more than {MOST:,} fields")
        tag, at = varint(content, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = varint(content, at)
            yield tag >> 3, value
            continue

        if kind == BYTES:
            length, at = varint(content, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise WireError(f"wire type {kind}")
        if length > size - at:
            raise WireError(f"a field of {length:,} bytes where {size - at:,} are left")
        yield tag >> 3, content[at : at + length]
        at += length


def varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return the integer, below 2^64, that begins at a byte, and where the next one begins."""
    value = 0
    for place, byte in enumerate(content[at : at + LONGEST_VARINT]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise WireError("a number without an end")


def _bytes(value: int | memoryview) -> memoryview:
    """Return a value that must be bytes."""
    if isinstance(value, int):
        raise WireError("a number where bytes belong")
    return value
