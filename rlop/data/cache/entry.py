"""One data set in a folder: columns as raw bytes in `*.bin`, and `about.json` that describes them.

The bytes have checksums, block by block. All blocks are compared when the files' sizes or times are
not those at which they were last compared, so after a copy or a restore; otherwise a few.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from rlop.config.files import read_whole, to_dict, write_atomic
from rlop.config.writing import sync_file
from rlop.data.dataset import Dataset
from rlop.data.dqn_replay.stacks import Stacks
from rlop.data.mapped import Room, open_mapped, pieces
from rlop.data.stored_spec import spec_from
from rlop.types import InputError

FORMAT = 1
ABOUT, CHECKED = "about.json", "checked.json"
BLOCK = 1 << 22  # bytes that share a checksum
SAMPLE = 8  # blocks of a file that are compared at every start
COLUMNS = ("obs", "action", "reward", "next_obs", "terminated", "truncated", "end")
INFO = "infos/"  # begins the name of a column of `Dataset.infos`
NAME = re.compile(r"[\w-]+\.bin")  # of a file in the folder
KINDS = "fiub"  # of dtypes, as NumPy names them

Column = dict[str, Any]  # file, offset, shape and dtype; or frames and last of `Stacks`


class Unusable(InputError):
    """A cache that must be made again; the message says why."""


# ---- writing


def write_entry(room: Room, data: Dataset, state: Mapping[str, Any]) -> None:
    """Write a data set into the folder in which its arrays were made.

    Arrays that lie in a file of the folder stay there; others are copied, some megabytes at a time.

    Args:
        room: of the folder.
        data: as read.
        state: of what it was read from.
    Raises:
        InputError: rows that cannot be kept, such as those of a mixture.
        OSError: the disk has no room.
    """
    if data.mixture is not None or data.discount is not None or data.extra:
        raise InputError(
            f"cache: {data.name}: expected single steps of one source; a mixture is "
            "`data: mix`, whose sources are cached one by one"
        )
    arrays = {name: data.__dict__[name] for name in COLUMNS}
    arrays |= {f"{INFO}{name}": column for name, column in data.infos.items()}

    writer = _Writer(room)
    columns = {name: writer.column(name, array) for name, array in arrays.items()}
    content = {
        "format": FORMAT,
        "origin": state,
        "name": data.name,
        "spec": to_dict(asdict(data.spec)),
        "keys": data.keys,
        "columns": columns,
        "files": writer.finish(),
    }
    text = json.dumps({"crc32": _crc(_text(content)), "content": content})
    write_atomic(room.folder / ABOUT, text.encode())
    _note_checked(room.folder, content["files"])


class _Writer:
    """Finds or makes the file of every column.

    Args:
        room: the folder, with the arrays that were made there.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.used: dict[str, int] = {}  # bytes of each file, up to the last one that is used
        self.placed: dict[int, Column] = {}  # by the identity of the array

    def column(self, name: str, array: np.ndarray | Stacks) -> Column:
        """Return the place of a column."""
        if isinstance(array, Stacks):
            return {
                "frames": self.column(name, array.frames),
                "last": self.column(name, array.last),
            }
        if array.dtype.kind not in KINDS:
            raise InputError(f"cache: {name}: dtype {array.dtype}, expected numbers")
        if id(array) not in self.placed:
            file, offset = self._in_the_room(array) or (self._write(array), 0)
            self.used[file] = max(self.used.get(file, 0), offset + array.nbytes)
            self.placed[id(array)] = {
                "file": file,
                "offset": offset,
                "shape": list(array.shape),
                "dtype": array.dtype.str,
            }
        return self.placed[id(array)]

    def _in_the_room(self, array: np.ndarray) -> tuple[str, int] | None:
        """Return file and offset of an array that lies in a file of the folder already."""
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
            return None
        for file, whole in self.room.arrays.items():
            offset = array.ctypes.data - whole.ctypes.data
            if offset >= 0 and offset + array.nbytes <= whole.nbytes:
                return file, offset
        return None

    def _write(self, array: np.ndarray) -> str:
        """Copy an array into a new file."""
        file = f"{len(self.room.arrays) + len(self.used)}-copy.bin"
        self.room.expect(array.nbytes)
        with open(self.room.folder / file, "xb") as target:
            for rows in pieces(array):
                part = np.ascontiguousarray(array[rows])
                target.write(part.data.cast("B") if part.size else b"")
                self.room.advance(part.nbytes)
        return file

    def finish(self) -> dict[str, dict[str, Any]]:
        """Remove what no column uses, and return size and checksums of each file."""
        for file, array in self.room.arrays.items():
            if file in self.used:
                array.flush()
        self.room.arrays.clear()

        files: dict[str, dict[str, Any]] = {}
        for path in sorted(self.room.folder.glob("*.bin")):
            if path.name not in self.used:
                path.unlink()
                continue
            size = self.used[path.name]
            os.truncate(path, size)
            sync_file(path)
            files[path.name] = {"size": size, "crc32": _checksums(path)}
        return files


# ---- opening


def open_entry(folder: Path, state: Mapping[str, Any]) -> Dataset:
    """Map the columns of a data set.

    Args:
        folder: of the cache.
        state: of what it must have been read from.
    Raises:
        Unusable: there is none, it is damaged, or it is of another state.
    """
    content = _content(folder, state)
    try:
        return _opened(folder, content)
    except Unusable:
        raise
    except OSError as error:
        raise Unusable(f"{folder}: cannot be read ({error.strerror})") from None
    except (LookupError, ValueError, TypeError, AttributeError):  # the checksum is no signature
        raise Unusable(f"{folder / ABOUT}: damaged") from None


def _opened(folder: Path, content: Mapping[str, Any]) -> Dataset:
    """Return the data set that a description is of."""
    files = content["files"]
    if not all(NAME.fullmatch(file) for file in files):
        raise ValueError
    _verify(folder, files)
    maps = {file: open_mapped(folder / file) for file, about in files.items() if about["size"]}

    columns: dict[str, np.ndarray] = {}
    infos: dict[str, np.ndarray] = {}
    for name, column in content["columns"].items():
        place = infos if name.startswith(INFO) else columns
        place[name.removeprefix(INFO)] = _mapped(maps, column)
    return Dataset(
        **columns,  # type: ignore[arg-type]  # arrays alone
        spec=spec_from(folder / ABOUT, content["spec"], _trusted(content)),
        name=content["name"],
        infos=infos,
        keys=content["keys"],
    )


def _content(folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Read what describes a cache."""
    path = folder / ABOUT
    try:
        about = json.loads(read_whole(path))
        content: dict[str, Any] = about["content"]
        is_whole = about["crc32"] == _crc(_text(content))
    except FileNotFoundError:
        raise Unusable("") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise Unusable(f"{path}: damaged or cut short") from None
    if not is_whole:
        raise Unusable(f"{path}: damaged")
    if content["format"] != FORMAT or content["origin"]["code"] != state["code"]:
        raise Unusable(f"{folder}: was made by another version")
    if content["origin"] != state:
        changed = _first_change(content["origin"]["files"], state["files"])
        raise Unusable(f"{changed}: has changed since {folder} was made")
    return content


def _first_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the first file that is other, new or gone."""
    for path in [*new, *old]:
        if old.get(path) != new.get(path):
            return path
    return "the source"


def _trusted(content: Mapping[str, Any]) -> list[str]:
    """Return the module of the environment that the user's own options name."""
    env_id = content["origin"]["options"].get("env_id")
    return [env_id.partition(":")[0]] if isinstance(env_id, str) else []


def _mapped(maps: Mapping[str, np.memmap], column: Column) -> np.ndarray:
    """Return a column of mapped files."""
    if "frames" in column:
        frames, last = _mapped(maps, column["frames"]), _mapped(maps, column["last"])
        return Stacks(frames, last)  # type: ignore[return-value]  # looks like an array
    dtype, shape = np.dtype(column["dtype"]), tuple(column["shape"])
    size = dtype.itemsize * prod(shape)
    if size == 0:
        return np.empty(shape, dtype)
    return maps[column["file"]][column["offset"] :][:size].view(dtype).reshape(shape)


# ---- checksums


def _verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare sizes and checksums.

    Raises:
        Unusable: some differ.
    """
    for file, about in files.items():
        size = (folder / file).stat().st_size
        if size != about["size"]:
            raise Unusable(f"{folder / file}: {size:,} bytes, expected {about['size']:,}")

    was_checked = _checked(folder) == _states(folder, files)
    for file, about in files.items():
        blocks = range(len(about["crc32"]))
        if was_checked:
            blocks = np.unique(np.linspace(0, len(blocks) - 1, SAMPLE).astype(int)).tolist()
        with open(folder / file, "rb") as stream:
            for block in blocks:
                stream.seek(block * BLOCK)
                if _crc(stream.read(BLOCK)) != about["crc32"][block]:
                    raise Unusable(f"{folder / file}: damaged")
    if not was_checked:
        _note_checked(folder, files)


def _checksums(path: Path) -> list[int]:
    """Return the checksum of every block of a file."""
    sums = []
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            sums.append(_crc(block))
    return sums


def _crc(content: bytes) -> int:
    return zlib.crc32(content)


def _text(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _states(folder: Path, files: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return what changes when a file is written to, or is another one."""
    states = {}
    for file in files:
        state = (folder / file).stat()
        states[file] = [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return states


def _checked(folder: Path) -> object:
    """Return the states of the files when all of their blocks were last compared."""
    try:
        return json.loads(read_whole(folder / CHECKED))
    except (OSError, ValueError, RecursionError):
        return None


def _note_checked(folder: Path, files: Mapping[str, Any]) -> None:
    """Remember the states of the files, where the folder may be written to."""
    with suppress(OSError, InputError):
        write_atomic(folder / CHECKED, json.dumps(_states(folder, files)).encode())
