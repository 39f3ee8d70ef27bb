"""Run one of the small reproductions: print each number with its band, save record and picture.

python scripts/supervised.py epoch_double_descent
python scripts/supervised.py label_noise --seed 3 --out runs/mine
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlop.command import run_script
from rlop.experiments.reproduction import table
from rlop.experiments.running import save


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a module of rlop.experiments that the catalogue names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/supervised"))
    options = parser.parse_args(argv)

    record = save(options.name, options.seed, options.out)
    print(table([record]))
    print(f"\nrecord and picture: {options.out}/{options.name}.json, .png")


if __name__ == "__main__":
    run_script(__file__, main)
