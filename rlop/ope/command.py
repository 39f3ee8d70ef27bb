"""The option `--select` of `rlop report`."""

from __future__ import annotations

from argparse import Namespace

from rlop.config.overrides import apply_overrides
from rlop.ope.selection import as_text, select
from rlop.types import InputError


def print_selection(args: Namespace) -> None:
    """Print the ranking of checkpoints that a command asks for.

    Args:
        args: from the parser of `rlop report`.
    Raises:
        InputError: no runs, no data, or what `rlop.ope.selection.select` refuses.
    """
    if not args.runs or args.data is None:
        raise InputError("--select: expected RUNS, and --data D to try their checkpoints on")
    for option in args.fqe:
        if "=" not in option:
            raise InputError(f"--fqe {option}: expected KEY=VALUE, as in steps=2000")
    options = apply_overrides({}, [f"--{option}" for option in args.fqe])
    if "gamma" in options:
        raise InputError("--fqe gamma: expected --gamma")

    print(as_text(select(args.runs, args.data, gamma=args.gamma, allow=args.allow, **options)))
