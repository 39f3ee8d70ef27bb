"""Make trainings sick on purpose, and see whether the doctor names what they have.

    python scripts/doctor.py calibrate    # seeds 1 to 3: writes rlop/doctor/ranges.json
    python scripts/doctor.py decide       # seeds 101 to 105 and 201 to 210: the table of the page
    python scripts/doctor.py page         # write the table from the records alone

Records go to docs/doctor.jsonl, one a line; patients that have one are not trained again. What is
induced, and which consequences it may have: `rlop/experiments/doctor_runs.py`. About 3 and 5
processor minutes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from rlop.command import run_script
from rlop.config.files import write_atomic
from rlop.experiments import doctor_study

RANGES = Path("rlop/doctor/ranges.json")


def main(argv: Sequence[str]) -> None:
    """Examine the patients of one stage, and write what follows from them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["calibrate", "decide", "page"])
    parser.add_argument("--records", type=Path, default=Path("docs/doctor.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/doctor.md"))
    options = parser.parse_args(argv)

    torch.set_num_threads(1)
    if options.stage == "calibrate":
        records = doctor_study.collect(doctor_study.plan(calibrating=True), options.records)
        content = json.dumps(doctor_study.reference(records), indent=1) + "\n"
        write_atomic(RANGES, content.encode())
        return

    wanted = doctor_study.plan(calibrating=False)
    if options.stage == "decide":
        doctor_study.collect(wanted, options.records)
    records = doctor_study.chosen(doctor_study.read(options.records), wanted)
    page = doctor_study.filled(options.page.read_text(), records)
    write_atomic(options.page, page.encode())
    print(doctor_study.table(records))


if __name__ == "__main__":
    run_script(__file__, main)
