"""Run one experiment for one seed: print each number with its band, save record and curves.

python scripts/supervised.py epoch_double_descent
python scripts/supervised.py label_noise --seed 3 --part control --out runs/mine

One seed has no verdict: see scripts/reproduce.py.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlop.command import run_script
from rlop.experiments.catalogue import workshop
from rlop.experiments.records import PARTS, RUN
from rlop.experiments.reproduction import lines_of
from rlop.experiments.running import run_part, save


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a module of rlop.experiments that the catalogue names")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", choices=PARTS, default=RUN, help="the effect, or its control")
    parser.add_argument("--out", type=Path, default=Path("runs/supervised"))
    options = parser.parse_args(argv)

    record, outcome = run_part(options.name, options.seed, options.part)
    print(lines_of(record, workshop().measures_of(options.name)))
    print(f"one seed: no verdict; {save(record, outcome, options.out)}")


if __name__ == "__main__":
    run_script(__file__, main)
