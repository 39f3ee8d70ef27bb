"""Records of made-up trainings."""

import math

from rlop.logs.logger import Logger

HPARAMS = [{"dr3": dr3, "seed": seed} for dr3 in (0, 0.03) for seed in range(3)]


def record(hparams, rows, logdir=None, **config):
    """The history of runs that logged these (step, metrics)."""
    labels = [f"r{number}" for number in range(len(hparams))]
    with Logger(logdir, labels, hparams, config) as log:
        for step, metrics in rows:
            log.log(step, metrics)
    return log.history


def two_settings():
    """Three runs of each of two settings; the last run diverges."""
    rows = [
        (0, {"eval/return": [9, 9, 9, 9, 9, 9], "loss": [1, 1, 1, 1, 1, 1]}),
        (10, {"eval/return": [1, 2, 3, 4, 6, math.nan]}),
    ]
    return record(HPARAMS, rows)
