"""Pickled replay buffers: refused, with the lines by which their owner converts them."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from rlop.types import InputError

# Stable-Baselines3's ReplayBuffer holds [steps, environments, ...] as a ring that begins at `pos`;
# its actions are scaled to [-1, 1] already. The newest row of each environment is a cut.
CONVERSION = (
    "import numpy as np; from stable_baselines3.common.save_util import load_from_pkl; "
    "b = load_from_pkl({path!r}); cut = b.timeouts.copy(); cut[b.pos - 1] = 1",
    "rows = lambda a: np.roll(a, -b.pos * b.full, 0)[: b.size()].swapaxes(0, 1)"
    ".reshape(-1, *a.shape[2:])",
    "np.savez({target!r}, obs=rows(b.observations), action=rows(b.actions), "
    "reward=rows(b.rewards), terminated=rows(b.dones * (1 - b.timeouts)), "
    "truncated=rows(cut), next_obs=rows(b.next_observations))",
)


def conversion(path: Path) -> list[str]:
    """Return three lines of Python that make an `.npz` file of a buffer of Stable-Baselines3.

    They unpickle it, so only someone who trusts the file may run them.
    """
    names = {"path": str(path), "target": str(path.with_suffix(".npz"))}
    return [line.format(**names) for line in CONVERSION]


def refuse_pickle(source: str | Path, **options: object) -> NoReturn:
    """Refuse a pickle, which can run any code; options are not looked at.

    Raises:
        InputError: always, with the lines that convert a buffer of Stable-Baselines3.
    """
    path = Path(source)
    lines = "; ".join(conversion(path))
    raise InputError(
        f"{path}: a pickle, which can run any code and is never read; if it is your own replay "
        f"buffer of Stable-Baselines3, this Python makes {path.with_suffix('.npz')} of it: {lines}"
    )
