"""Run one of the small reproductions: prints each number beside its band, writes NAME.json and NAME.png.

python scripts/supervised.py epoch_double_descent
python scripts/supervised.py label_noise --seed 3 --out runs/mine
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlop.cli import guarded
from rlop.experiments.reproduction import table
from rlop.experiments.running import save


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a module of rlop.experiments that the catalogue names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/supervised"))
    options = parser.parse_args(argv)
    print(table([save(options.name, options.seed, options.out)]))
    print(f"\nrecord and picture: {options.out}/{options.name}.json, .png")


if __name__ == "__main__":
    sys.exit(guarded(main))
