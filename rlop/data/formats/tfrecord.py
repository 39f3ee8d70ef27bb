"""Records of a gzip TFRecord file, without TensorFlow; every checksum is compared.

A record is its length (uint64, little endian), the masked CRC-32C of these 8 bytes (uint32), the
bytes, and their masked CRC-32C.

Reference: tensorflow/core/lib/io/record_writer.h; CRC-32C is RFC 3720, section 12.1.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from rlop.types import InputError

HEADER = struct.Struct("<QI")  # length of the bytes, checksum of the length
FOOTER = struct.Struct("<I")  # checksum of the bytes
LARGEST = 1 << 27  # bytes of a record: 5,000 for each of the 27,000 frames of the longest episode
POLYNOMIAL = 0x82F63B78  # of CRC-32C, bits reversed
MASK_DELTA = 0xA282EAD8
BLOCK = 16  # bytes that are looked up at once
BLOCK_LEVEL = 4  # 2^4 of them
LEVELS = 29  # of the folding, up to 2^28 bytes


def read_records(path: Path, verify: bool = True) -> Iterator[bytes]:
    """Yield the bytes of each record.

    Args:
        path: of the file.
        verify: compare the checksums of the bytes, too, besides gzip's and those of the lengths.

    Raises:
        InputError: no such file, not gzip, damaged or cut short, a wrong checksum, or a record of
            more than 2^27 bytes; the message names the file and the record.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with gzip.open(path, "rb") as file:
            yield from _records(cast(BinaryIO, file), path, verify)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: damaged or cut short ({error}), expected a whole gzip file of TFRecords"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _records(file: BinaryIO, path: Path, verify: bool) -> Iterator[bytes]:
    """Yield the bytes of each record of an open file."""
    number = 0
    while header := file.read(HEADER.size):
        where = f"{path}: record {number}"
        if len(header) < HEADER.size:
            raise InputError(f"{where}: cut short in its header")

        length, checksum = HEADER.unpack(header)
        if masked_crc(header[:8]) != checksum:
            raise InputError(f"{where}: wrong checksum of its length, expected a TFRecord")
        if length > LARGEST:
            raise InputError(f"{where}: {length:,} bytes, expected at most {LARGEST:,}")

        content = file.read(length)
        footer = file.read(FOOTER.size)
        if len(content) < length or len(footer) < FOOTER.size:
            raise InputError(f"{where}: cut short, expected {length:,} bytes and their checksum")
        if verify and masked_crc(content) != FOOTER.unpack(footer)[0]:
            raise InputError(f"{where}: wrong checksum of its {length:,} bytes")

        yield content
        number += 1


def masked_crc(content: bytes) -> int:
    """Return CRC-32C as TFRecords store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(content)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return (rotated + MASK_DELTA) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """Return the CRC-32C of some bytes.

    The remainder of two parts together is the first part's, moved on by the length of the second,
    XOR the second's. So blocks of 16 bytes are looked up two bytes at a time, and then neighbors
    are folded pair by pair: NumPy takes 4 ns a byte, a loop in Python 100.
    """
    # Zeros in front leave a remainder of zero as it is, so that there are whole blocks and pairs.
    size = len(content)
    padded = np.zeros(BLOCK * max(1, -(-size // BLOCK)), np.uint8)
    padded[len(padded) - size :] = np.frombuffer(content, np.uint8)

    pairs = padded.view("<u2").reshape(-1, BLOCK // 2)
    remainder = np.zeros(len(pairs), np.uint32)
    for place, table in enumerate(block_tables()):
        remainder ^= table[pairs[:, place]]

    tables = moves()
    level = BLOCK_LEVEL
    while len(remainder) > 1:
        if len(remainder) % 2:
            remainder = np.append(np.zeros(1, np.uint32), remainder)
        remainder = move(tables[level], remainder[0::2]) ^ remainder[1::2]
        level += 1

    # The register begins with ones, which move on by all of the bytes, and is inverted at the end.
    begun = np.array([0xFFFFFFFF], np.uint32)
    for level in range(size.bit_length()):
        if size >> level & 1:
            begun = move(tables[level], begun)
    return int(remainder[0] ^ begun[0]) ^ 0xFFFFFFFF


def byte_table() -> np.ndarray:
    """Return the remainder of each byte, `[256]` uint32."""
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return table


@lru_cache(maxsize=1)
def moves() -> list[np.ndarray]:
    """Return for each level the table that moves a remainder on by 2^level bytes of zeros.

    Returns:
        `[4, 256]` uint32 each: what each of the four bytes of a remainder becomes.
    """
    byte = np.arange(256, dtype=np.uint32)
    values = np.stack([byte << shift for shift in (0, 8, 16, 24)]).astype(np.uint32)
    table = (values >> 8) ^ byte_table()[values & 255]

    tables: list[np.ndarray] = []
    for _ in range(LEVELS):
        tables.append(table)
        table = move(table, table)
    return tables


@lru_cache(maxsize=1)
def block_tables() -> list[np.ndarray]:
    """Return for each pair of bytes in a block what it adds to the remainder, `[65536]` each."""
    one_on, two_on = moves()[:2]
    pair = np.arange(1 << 16, dtype=np.uint32)
    byte = byte_table()
    table = move(one_on, byte[pair & 255]) ^ byte[pair >> 8]

    tables = [table]
    for _ in range(BLOCK // 2 - 1):
        table = move(two_on, table)
        tables.insert(0, table)
    return tables


def move(table: np.ndarray, remainder: np.ndarray) -> np.ndarray:
    """Move remainders on by zeros: the map is linear, so the four bytes' images are XORed.

    Args:
        table: `[4, 256]` uint32, one of `moves`.
        remainder: uint32, any shape.
    """
    return (
        table[0][remainder & 255]
        ^ table[1][remainder >> 8 & 255]
        ^ table[2][remainder >> 16 & 255]
        ^ table[3][remainder >> 24]
    )
