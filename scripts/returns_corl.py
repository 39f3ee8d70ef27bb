"""Train CORL's own classes on the data of docs/returns.md, with the same minibatches and updates.

    CORL_DIR=CORL python scripts/returns_corl.py --folder data

Records go to docs/returns_corl.jsonl, one training a line; `python scripts/returns.py page` puts
them into the tables. What is trained, and for how long: `rlop/experiments/returns_settings.py`. All
other options are those of CORL's configurations. Data are collected by `scripts/returns.py`. ReBRAC
is trained by JAX, with flax, optax and chex.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.experiments import returns_study
from rlop.experiments.returns_settings import SETTINGS
from rlop.types import InputError


def main(argv: Sequence[str]) -> None:
    """Train what has no record yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("data"), help="of the data")
    parser.add_argument("--records", type=Path, default=Path("docs/returns_corl.jsonl"))
    parser.add_argument("--only", nargs="+", metavar="TITLE", help="agents, such as ReBRAC")
    options = parser.parse_args(argv)

    try:
        from scripts.corl.study import run_setting
    except ModuleNotFoundError as error:
        raise InputError(f"not installed: {error.name}") from error

    torch.set_num_threads(1)
    some = [one for one in SETTINGS if options.only is None or one.title in options.only]
    returns_study.decide(options.records, options.folder, some, run=run_setting)


if __name__ == "__main__":
    run_script(__file__, main)
