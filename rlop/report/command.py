"""The command `rlop report`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from rlop.report.budgets import budgets
from rlop.report.formats import FORMATS
from rlop.report.html import write_page
from rlop.report.pairs import compared
from rlop.report.study import Study, chosen_metrics, gather
from rlop.report.tables import AT, STABILITY, STATISTICS, figure, report_of, usual_metrics
from rlop.report.whole import html_report
from rlop.types import InputError


def add_options(parser: ArgumentParser) -> None:
    """Add the options of `rlop report` to its parser, except `--allow`."""
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        metavar="RUNS",
        help="log folders, or folders of them; also d3rlpy's folders, CSV exports of Weights & "
        "Biases, and monitor.csv and progress.csv of Stable-Baselines3",
    )
    add("--html", metavar="FILE", help="write one page with everything, which needs no network")
    add("--by", nargs="+", default=[], metavar="KEY", help="settings whose values make the groups")
    add("--metrics", nargs="+", default=None, help="names as logged; default: scores and ranks")
    add(
        "--at",
        default="final",
        choices=[*AT, STABILITY],
        help="default final; stability: all of them",
    )
    add(
        "--statistic",
        default="mean",
        choices=list(STATISTICS),
        help="over the runs of a group: mean with a Student-t interval, or interquartile mean "
        "with a bootstrap interval",
    )
    add("--png", default=None, help="also draw the curves into this file")
    add(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two groups, or two folders: what B changes against A, paired by seed and data",
    )
    add(
        "--bandit",
        nargs="?",
        type=int,
        const=0,
        metavar="N",
        help="expected score against the number of online evaluations, over the configurations of "
        "a sweep, or over N of them; --by tells methods apart",
    )
    add(
        "--select",
        action="store_true",
        help="rank the checkpoints of RUNS without an environment, by values and errors on --data",
    )
    add("--data", metavar="D", help="with --select: file or name, best one no training has seen")
    add("--gamma", type=float, help="with --select: discount; default the largest of the agents'")
    add(
        "--fqe",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="with --select: options of fitted Q evaluation, as in steps=2000 hidden=[64,64]",
    )
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(
            f"--{name}",
            dest="format",
            action="store_const",
            const=name,
            help="print interquartile means with 95 %% intervals in this format",
        )


def print_report(args: Namespace) -> None:
    """Print a table of the runs, and write the page and the picture that were asked for.

    Raises:
        InputError: no runs, or an option that does not fit them.
    """
    sources: Sequence[str] = args.runs or args.compare or []
    if not sources:
        raise InputError("report: expected folders of runs, as in `rlop report runs`")
    if args.at == STABILITY and (args.format or args.compare or args.bandit is not None):
        raise InputError(f"--at {STABILITY}: expected one of {', '.join(AT)} with this option")

    study = gather(sources, args.by)
    print(_text(study, args))
    if args.png:
        names = args.metrics or usual_metrics(study.metrics, args.at)
        print(f"picture: {figure(study.histories, names, args.png, study.rows)}")
    if args.html:
        page = html_report(study, chosen_metrics(study, args.metrics))
        print(f"page: {write_page(args.html, page)}")


def _text(study: Study, args: Namespace) -> str:
    """Return what is printed: budgets, a comparison, a table for programs, or one for people."""
    if args.bandit is not None:
        if args.bandit < 0 or args.compare or args.format:
            raise InputError(
                f"--bandit {args.bandit}: expected a number of configurations, and no other table"
            )
        return budgets(study, args.metrics, AT[args.at][1], args.by, args.bandit)
    if args.compare:
        names = chosen_metrics(study, args.metrics)
        first, second = args.compare
        return compared(study, first, second, names, AT[args.at][1])
    if args.format:
        names = chosen_metrics(study, args.metrics)
        return FORMATS[args.format](study, names, AT[args.at][1])
    return report_of(study, ", ".join(args.runs), args.metrics, args.at, args.statistic)
