"""The Rank Atlas: does the rank of features predict the return? Train its runs, write its page.

    python scripts/atlas.py                        # all that has no runs yet, then the page
    python scripts/atlas.py "mixed grid DQN" ...   # these, again
    python scripts/atlas.py page                   # write page and picture from the records

Each training is one process with all of its arms and seeds side by side, and one portion of the
study: its runs go to docs/atlas.jsonl, one a line, as soon as it is finished, and what is finished
is not trained again. Data that are collected go to --data. What is trained, and by which numbers
the questions are answered: `rlop/experiments/atlas_settings.py` and `atlas_questions.py`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments import atlas_page, atlas_study
from rlop.experiments.atlas_settings import REPORTING, trainings


def train(names: Sequence[str], options: argparse.Namespace) -> None:
    """Run trainings one after another; the runs of each are written at once."""
    table = trainings()
    order = list(table)
    for name in names:
        runs = atlas_study.run_training(
            name, table[name], options.data, options.seeds, options.steps, options.compile
        )
        kept = [run for run in atlas_study.read(options.records) if run.training != name]
        kept = sorted([*kept, *runs], key=lambda run: order.index(run.training))
        atlas_study.write(kept, options.records)
        seconds = sum(run.seconds for run in runs)
        print(f"{name}: {len(runs)} runs, {seconds:.0f} s", flush=True)


def page(options: argparse.Namespace) -> None:
    """Write the tables into the page, and draw its picture."""
    runs = atlas_study.read(options.records)
    text = atlas_page.filled(options.page.read_text(), runs)
    write_atomic(options.page, text.encode())
    atlas_page.draw(runs, options.page.with_suffix(".png"))
    print(f"{options.page}: {len(runs)} runs")


def main(argv: Sequence[str]) -> None:
    """Train what the command line names, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="trainings, or page")
    parser.add_argument("--steps", type=int, help="gradient steps, in place of the settings'")
    parser.add_argument("--seeds", type=int, nargs="+", default=REPORTING)
    parser.add_argument("--compile", action="store_true", help="compile the updates")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of collected data")
    parser.add_argument("--records", type=Path, default=Path("docs/atlas.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/rank_and_return.md"))
    options = parser.parse_args(argv)

    known = [*trainings(), "page"]
    for name in options.names:
        check_known("training", name, known)
    names = [name for name in options.names if name != "page"]
    if not options.names:
        done = {run.training for run in atlas_study.read(options.records)}
        names = [name for name in trainings() if name not in done]

    torch.set_num_threads(1)
    train(names, options)
    page(options)


if __name__ == "__main__":
    run_script(__file__, main)
