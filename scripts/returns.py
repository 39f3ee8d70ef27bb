"""Train six agents on data of D4RL's own policies, and compare their returns with that policy's.

    python scripts/returns.py decide --folder data    # train what has no record; minutes each
    python scripts/returns.py page                    # write the tables from the records alone

Records go to docs/returns.jsonl, one training a line. Data that are missing in the folder are
collected, for which the file of D4RL that holds the policy must be on disk. What is trained:
`rlop/experiments/returns_settings.py`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.config.files import write_atomic
from rlop.experiments import returns_page, returns_study


def main(argv: Sequence[str]) -> None:
    """Train what has no record yet, if asked for, and write the tables into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["decide", "page"])
    parser.add_argument("--folder", type=Path, default=Path("data"), help="of the data")
    parser.add_argument("--records", type=Path, default=Path("docs/returns.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/returns.md"))
    options = parser.parse_args(argv)

    torch.set_num_threads(1)
    if options.stage == "decide":
        returns_study.decide(options.records, options.folder)
    records = returns_study.read(options.records)
    page = returns_page.filled(options.page.read_text(), records)
    write_atomic(options.page, page.encode())
    print(returns_page.tables(records))


if __name__ == "__main__":
    run_script(__file__, main)
