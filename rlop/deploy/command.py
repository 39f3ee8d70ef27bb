"""The command `rlop export`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rlop.deploy.load import BEST, load_policy


def add_options(parser: ArgumentParser) -> None:
    """Add the options of `rlop export` to its parser, except `--allow`."""
    add = parser.add_argument
    add("path", metavar="RUN", help="a log folder, or a checkpoint")
    add(
        "--out",
        default="policy.onnx",
        metavar="FILE",
        help=".onnx, .pt2 (torch.export) or .safetensors (parameters); default policy.onnx",
    )
    add("--run", default=BEST, help="index or label; default best, by the last evaluation")
    add("--env", metavar="ID", help="the environment; default: the one that the data named")


def export(args: Namespace) -> None:
    """Write the policy of a run, and say what was written."""
    run = int(args.run) if args.run.isdecimal() else args.run
    policy = load_policy(args.path, run, env=args.env, allow=args.allow)
    file = policy.export(args.out)
    print(f"{file}: {policy}\n{file.with_suffix('.md')}: its model card")
