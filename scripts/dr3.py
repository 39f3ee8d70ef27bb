"""DR3 claim by claim: train the settings of the study, and write docs/dr3.md from the records.

    python scripts/dr3.py                            # every setting that has no record yet
    python scripts/dr3.py "grid CQL" "Breakout CQL"  # these, again
    python scripts/dr3.py drift                      # drifts at trained networks
    python scripts/dr3.py page                       # write page and picture from the records

Each setting is one training, all of its arms and seeds side by side; on a GPU (--device cuda) the
fastest by far. Data that are collected go to --data. Records go to docs/dr3.jsonl, one a line, as
soon as a setting is finished. The settings, the bands and why: `rlop/experiments/dr3_settings.py`
and `dr3_claims.py`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments import dr3_page, dr3_study, trained_drift
from rlop.experiments.dr3_settings import REPORTING, settings

DRIFT_BACKUPS = ("max", "sarsa")


def train(names: Sequence[str], options: argparse.Namespace) -> None:
    """Train settings one after another; each record is written at once."""
    table = settings()
    records = dr3_study.read(options.records)
    for name in names:
        record = dr3_study.run_setting(
            name, table[name], options.data, options.steps, options.device
        )
        records.settings[name] = record
        dr3_study.write(records, options.records)
        print(f"{name}: {record.steps[-1]:,} steps of {len(record.runs)} runs", flush=True)


def drift(options: argparse.Namespace) -> None:
    """Compare predicted and simulated drift at trained networks, for every seed."""
    records = dr3_study.read(options.records)
    for backup in DRIFT_BACKUPS:
        for seed in REPORTING:
            values = trained_drift.compare(seed, backup)
            records.drifts[backup, seed] = values
            dr3_study.write(records, options.records)
            print(backup, seed, values, flush=True)


def page(options: argparse.Namespace) -> None:
    """Write the tables into the page, and draw its picture."""
    records = dr3_study.read(options.records)
    text = options.page.read_text()
    write_atomic(options.page, dr3_page.filled(text, dr3_page.tables(records)).encode())
    dr3_page.draw(records, options.page.with_suffix(".png"))
    print(f"{options.page}: {len(records.settings)} settings, {len(records.drifts)} drifts")


def main(argv: Sequence[str]) -> None:
    """Train what the command line names, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="settings, drift, or page")
    parser.add_argument("--steps", type=int, help="gradient steps, in place of the settings'")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of collected data")
    parser.add_argument("--records", type=Path, default=Path("docs/dr3.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/dr3.md"))
    options = parser.parse_args(argv)

    known = [*settings(), "drift", "page"]
    for name in options.names:
        check_known("setting", name, known)
    if not options.names:
        recorded = dr3_study.read(options.records).settings
        options.names = [name for name in known if name not in recorded]

    train([name for name in options.names if name in settings()], options)
    if "drift" in options.names:
        drift(options)
    page(options)


if __name__ == "__main__":
    run_script(__file__, main)
