"""Files in the layout of RL Unplugged, written byte by byte, and a plain decoding of such files."""

from __future__ import annotations

import gzip
import io
import struct

import numpy as np

POLYNOMIAL = 0x82F63B78
SIZE = 84


def crc(content):
    """CRC-32C, bit by bit as in its definition."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (POLYNOMIAL if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(content):
    """The checksum as a TFRecord stores it."""
    plain = crc(content)
    return ((plain >> 15 | plain << 17) + 0xA282EAD8) % 2**32


def varint(number):
    """An integer in groups of seven bits, the lowest first; two's complement in 64 bits."""
    number %= 2**64
    groups = bytearray()
    while number >= 128:
        groups.append(number % 128 + 128)
        number //= 128
    return bytes([*groups, number])


def field(number, content):
    """A field of bytes."""
    return varint(8 * number + 2) + varint(len(content)) + content


def feature(values, packed=True):
    """A Feature: a list of bytes, or of numbers by their dtype."""
    if isinstance(values, list):
        return field(1, b"".join(field(1, value) for value in values))
    if values.dtype.kind == "f":
        parts, number, tag = [struct.pack("<f", value) for value in values], 2, varint(8 + 5)
    else:
        parts, number, tag = [varint(int(value)) for value in values], 3, varint(8)
    content = b"".join(parts)
    listed = field(1, content) if packed else b"".join(tag + part for part in parts)
    return field(number, listed)


def example(features, packed=True):
    """A tf.train.Example."""
    entries = b""
    for name, values in features.items():
        entries += field(1, field(1, name.encode()) + field(2, feature(values, packed)))
    return field(1, entries)


def record(content):
    """A TFRecord."""
    length = struct.pack("<Q", len(content))
    checks = [struct.pack("<I", masked(part)) for part in (length, content)]
    return length + checks[0] + content + checks[1]


def png(frame):
    """A frame as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def episode(frames, checkpoint=0, number=0, terminated=True, seed=0):
    """Features of an episode: frames `[T]` of one gray each and random numbers otherwise."""
    rng = np.random.default_rng([seed, checkpoint, number])
    n = len(frames)
    reward = rng.integers(-3, 4, n).astype(np.float32)
    discount = np.ones(n, np.float32)
    discount[-1] = 0 if terminated else 1
    images = [png(np.full((SIZE, SIZE), gray, np.uint8)) for gray in frames]
    return {
        "observations": images,
        "actions": rng.integers(0, 6, n),
        "unclipped_rewards": reward,
        "clipped_rewards": reward.clip(-1, 1),
        "discounts": discount,
        "checkpoint_idx": np.array([checkpoint]),
        "episode_idx": np.array([number]),
        "episode_return": reward[:1],
    }


def write(path, examples):
    """Write examples, or bytes of them, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [item if isinstance(item, bytes) else example(item) for item in examples]
    path.write_bytes(gzip.compress(b"".join(map(record, contents)), 1))
    return path


def shard(root, number, examples, game="Pong", run=1):
    """Write one of three files of a run."""
    return write(root / game / f"run_{run}-{number:05d}-of-00003", examples)


# ---- a plain decoding, which shares nothing with the reader


def take_varint(content, at):
    """The integer at a place, and the place after it."""
    end = at
    while content[end] >= 128:
        end += 1
    digits = [byte % 128 for byte in content[at : end + 1]]
    return sum(digit * 128**place for place, digit in enumerate(digits)), end + 1


def take_fields(content):
    """(number, bytes) of each field of a message in which every field is bytes."""
    at, found = 0, []
    while at < len(content):
        tag, at = take_varint(content, at)
        assert tag % 8 == 2
        length, at = take_varint(content, at)
        found.append((tag // 8, content[at : at + length]))
        at += length
    return found


def take_integers(content):
    """Packed integers."""
    at, found = 0, []
    while at < len(content):
        value, at = take_varint(content, at)
        found.append(value)
    return np.array(found)


def plain_episodes(path):
    """Features by name of each record: frames `[T, 84, 84]`, and arrays."""
    from PIL import Image

    content = gzip.decompress(path.read_bytes())
    episodes, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        message = content[at + 12 : at + 12 + length]
        at += 16 + length
        ((_, features),) = take_fields(message)

        found = {}
        for _, entry in take_fields(features):
            parts = dict(take_fields(entry))
            ((kind, listed),) = take_fields(parts[2])
            values = [value for _, value in take_fields(listed)]
            if kind == 1:
                images = [np.asarray(Image.open(io.BytesIO(value))) for value in values]
                found[parts[1].decode()] = np.stack(images)
            else:
                read = take_integers if kind == 3 else lambda item: np.frombuffer(item, "<f4")
                found[parts[1].decode()] = read(values[0])
        episodes.append(found)
    return episodes


def plain_rows(episodes, reward="clipped_rewards"):
    """obs, action, reward, next_obs, terminated of every transition, episode by episode."""
    rows = []
    for features in episodes:
        n = len(features["actions"])
        frames = np.concatenate([np.zeros((3, SIZE, SIZE), np.uint8), features["observations"]])
        for t in range(n - 1):
            stack, following = frames[t : t + 4], frames[t + 1 : t + 5]
            ended = t == n - 2 and features["discounts"][-1] == 0
            rows.append((stack, features["actions"][t], features[reward][t], following, ended))
    return [np.stack(column) for column in zip(*rows)]
