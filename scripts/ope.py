"""Estimate values of policies without an environment where the truth is known, and count.

    python scripts/ope.py decide     # the seeds that decide, and the tables of the page
    python scripts/ope.py page       # write the tables from the records alone

Records go to docs/ope.jsonl, one data set a line; those that have one are not estimated again.
What is estimated, and by which settings: `rlop/experiments/ope_study.py`. About six
processor minutes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.config.files import write_atomic
from rlop.experiments import ope_page, ope_study


def main(argv: Sequence[str]) -> None:
    """Estimate what has no record yet, if asked for, and write the tables into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["decide", "page"])
    parser.add_argument("--records", type=Path, default=Path("docs/ope.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/ope.md"))
    options = parser.parse_args(argv)

    torch.set_num_threads(1)
    if options.stage == "decide":
        ope_study.decide(options.records)
    records = ope_study.read(options.records)
    page = ope_page.filled(options.page.read_text(), records)
    write_atomic(options.page, page.encode())
    print(ope_page.tables(records))


if __name__ == "__main__":
    run_script(__file__, main)
