"""`frames`: frames of RL Unplugged per second, beside Pillow's own loop over the same images.

The reader also unpacks the files twice, compares their checksums and keeps the other columns.
"""

from __future__ import annotations

import io
from typing import TypedDict

import numpy as np

from rlop.data.formats.rlu import PREFIX, TASK, find_run, read_rlu
from rlop.data.formats.tf_example import read_example
from rlop.data.formats.tfrecord import read_records
from rlop.types import InputError
from scripts.bench.measure import paired_ratio, race, show, table

GAME = f"{PREFIX}{TASK}Asterix/1"
ROUNDS = 5


class Rate(TypedDict):
    """Frames per second of CPU and of the clock, medians of the rounds."""

    per_cpu_s: float
    per_wall_s: float


def benchmark(name: str = GAME, rounds: int = ROUNDS) -> dict[str, Rate | float]:
    """Read a run whose files are in `$RLU_DIR`, and decode its images in a plain loop."""
    try:
        images = encoded(name)
    except InputError as error:
        print(error, flush=True)
        return {}

    contestants = {
        "rlop": lambda: len(read_rlu(name)),
        "Pillow": lambda: decoded(images),
    }
    samples = race(contestants, rounds, seconds=0)
    ratio = paired_ratio(samples["Pillow"]["cpu"], samples["rlop"]["cpu"])

    rates: dict[str, Rate | float] = {"cpu_of_pillow": ratio}
    lines = []
    for contestant, times in samples.items():
        rate = Rate(
            per_cpu_s=1e3 * len(images) / float(np.median(times["cpu"])),
            per_wall_s=1e3 * len(images) / float(np.median(times["wall"])),
        )
        rates[contestant] = rate
        lines.append(
            [contestant, show(rate["per_cpu_s"], ",.0f"), show(rate["per_wall_s"], ",.0f")]
        )

    print(table([f"{len(images):,} frames", "per CPU s", "per s"], lines))
    print(f"rlop takes {ratio:.2f} times the CPU time of Pillow", flush=True)
    return rates


def encoded(name: str) -> list[bytes]:
    """Return the PNG images of a run."""
    images: list[bytes] = []
    for path in find_run(name).files.values():
        for content in read_records(path):
            images += map(bytes, read_example(content)["observations"])
    return images


def decoded(images: list[bytes]) -> np.ndarray:
    """Decode images as Pillow's documentation does, `[n, 84, 84]`."""
    from PIL import Image

    out = np.empty((len(images), 84, 84), np.uint8)
    for row, content in enumerate(images):
        out[row] = np.asarray(Image.open(io.BytesIO(content)))
    return out
