"""Train six agents on data of D4RL's own policies, and compare their returns with that policy's.

    python scripts/returns.py decide --folder data    # train what has no record; minutes each
    python scripts/returns.py longer --folder data    # some of them with more updates
    python scripts/returns.py page                    # write the tables from the records alone

Records go to docs/returns.jsonl and docs/returns_longer.jsonl, one training a line. Data that are
missing in the folder are collected, for which the file of D4RL that holds the policy must be on
disk. What is trained: `rlop/experiments/returns_settings.py`. `scripts/returns_corl.py` trains
CORL's own classes, whose records the tables show beside these.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.config.files import write_atomic
from rlop.experiments import returns_page, returns_study
from rlop.experiments.returns_settings import LONGER, LONGER_SEEDS


def main(argv: Sequence[str]) -> None:
    """Train what has no record yet, if asked for, and write the tables into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["decide", "longer", "page"])
    parser.add_argument("--folder", type=Path, default=Path("data"), help="of the data")
    parser.add_argument("--records", type=Path, default=Path("docs"), help="folder of the records")
    parser.add_argument("--page", type=Path, default=Path("docs/returns.md"))
    options = parser.parse_args(argv)

    torch.set_num_threads(1)
    decided, longer = (options.records / f"{name}.jsonl" for name in ("returns", "returns_longer"))
    if options.stage == "decide":
        returns_study.decide(decided, options.folder)
    if options.stage == "longer":
        run = partial(returns_study.run_setting, seeds=LONGER_SEEDS)
        returns_study.decide(longer, options.folder, LONGER, run=run)

    corl = (options.records / f"{name}.jsonl" for name in ("returns_corl", "returns_corl_longer"))
    records = [returns_study.read(path) for path in (decided, longer, *corl)]
    page = returns_page.filled(options.page.read_text(), *records)
    write_atomic(options.page, page.encode())
    print(page)


if __name__ == "__main__":
    run_script(__file__, main)
