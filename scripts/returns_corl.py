"""Train CORL's own classes on the data of docs/returns.md, with the same minibatches and updates.

    CORL_DIR=CORL python scripts/returns_corl.py decide --folder data
    CORL_DIR=CORL python scripts/returns_corl.py longer --folder data    # with more updates

Records go to docs/returns_corl.jsonl and docs/returns_corl_longer.jsonl, one training a line;
`python scripts/returns.py page` puts them into the tables. What is trained, and for how long:
`rlop/experiments/returns_settings.py`. All other options are those of CORL's configurations. Data
are collected by `scripts/returns.py`. ReBRAC is trained by JAX, with flax, optax and chex; the
environment of `make bench` has them.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.experiments import returns_study
from rlop.experiments.returns_settings import LONGER, LONGER_SEEDS, SEEDS, SETTINGS
from rlop.types import InputError

# Stage -> what is trained, its seeds, and the file of its records.
STAGES = {
    "decide": (SETTINGS, SEEDS, "returns_corl.jsonl"),
    "longer": (LONGER, LONGER_SEEDS, "returns_corl_longer.jsonl"),
}


def main(argv: Sequence[str]) -> None:
    """Train what has no record yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["decide", "longer"])
    parser.add_argument("--folder", type=Path, default=Path("data"), help="of the data")
    parser.add_argument("--records", type=Path, default=Path("docs"), help="folder of the records")
    titles = sorted({one.title for one in SETTINGS})
    parser.add_argument("--only", nargs="+", choices=titles, default=titles, help="agents")
    options = parser.parse_args(argv)

    try:
        from scripts.corl.study import run_setting
    except ModuleNotFoundError as error:
        raise InputError(f"not installed: {error.name}") from error

    torch.set_num_threads(1)
    settings, seeds, name = STAGES[options.stage]
    some = [one for one in settings if one.title in options.only]
    run = partial(run_setting, seeds=seeds)
    returns_study.decide(options.records / name, options.folder, some, run=run)


if __name__ == "__main__":
    run_script(__file__, main)
