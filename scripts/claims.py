"""Measure the claims of a paper one by one, and write the page that judges them.

    python scripts/claims.py neural-td                    # all parts; about 15 minutes
    python scripts/claims.py neural-td --only tuned       # one part, then the page
    python scripts/claims.py neural-td --only             # the page alone

Appends a line for each part to OUT/NAME.jsonl and writes OUT/NAME.md from it. A part that the file
holds for the same seeds is not run again, unless --again asks for it.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from rlop.command import run_script
from rlop.config.checks import check_known
from rlop.config.files import write_atomic
from rlop.experiments import neural_td_claims, neural_td_page
from rlop.experiments.running import plain_process

# name -> its files, its parts, its page
CLAIMS = {"neural-td": ("neural_td", neural_td_claims, neural_td_page)}
SEEDS = list(range(101, 109))


def main(argv: Sequence[str]) -> None:
    """Run the parts that are missing, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=CLAIMS)
    parser.add_argument("--only", nargs="*", metavar="PART", help="parts to run; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--again", action="store_true", help="run finished parts, too")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args(argv)

    file_name, claims, page = CLAIMS[options.name]
    path = options.out / f"{file_name}.jsonl"
    records = read(path)
    for part in claims.plan() if options.only is None else options.only:
        check_known("part", part, claims.plan())
        kept = records.get(part)
        if kept and kept["seeds"] == options.seeds and not options.again:
            continue

        started = time.process_time()
        with plain_process():
            values = claims.run(part, options.seeds)
        seconds = round(time.process_time() - started, 1)
        records[part] = {
            "part": part,
            "seeds": options.seeds,
            "seconds": seconds,
            "values": values,
        }
        lines = [json.dumps(record) + "\n" for record in records.values()]
        write_atomic(path, "".join(lines).encode())
        print(f"{part}: {seconds:.0f} s", flush=True)

    ordered = [records[part] for part in claims.plan() if part in records]
    write_atomic(options.out / f"{file_name}.md", page.page(ordered).encode())
    print(f"{path} and {options.out / file_name}.md")


def read(path: Path) -> dict[str, dict]:
    """Read part -> record; nothing where there is no file."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text().splitlines())
    return {row["part"]: row for row in rows}


if __name__ == "__main__":
    run_script(__file__, main)
