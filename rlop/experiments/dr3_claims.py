"""The claims of DR3, each with the measure and the band that decide it.

Written before the runs that decide (2026-11-26). Seeds 101 to 108 report; seeds 1 and 2 choose
coefficients, from grids of the same size for every method, by the average return of the training.
A measure is one number a seed, paired where two arms are compared (same seed, same data, same
initialization). Its verdict is that of the 95 % Student-t interval over the eight seeds: inside the
band `holds`, outside `contradicted`, else `undecided`.

With f_T the value at the last of T evaluations and phi . phi' the mean dot product of consecutive
features on a fixed batch of the data (terminal transitions left out):

1. *Out of sample, the dot product rises.* log of phi . phi' at the end over that of SARSA, same
   seed, is above 0 for the max backup and for a' drawn from a cloned or the known behavior policy;
   end / half of the training is above 1.1 for max, and within [.8, 1.25] for SARSA and
   Monte-Carlo ("flat"); end / half of the mean Q of the data is within [.8, 1.25] for max ("Q
   converges"). The raw dot product grows with the features' norm, so the cosine is shown, too.
2. *Return falls as the dot product rises.* Without DR3, mean return of the last third less that of
   the middle third of the evaluations is below 0, where end / half of the dot product is above 1.
3. *R_TD predicts the drift.* At trained networks, the cosine between predicted and simulated drift
   is at least .95; that of the supervised part alone, the control, is not.
4. *The covariance of label noise and the identity do equally well.* Average return under the one
   less that under the other, at equal coefficients, contains 0: reported as a difference, with its
   interval inside +-10 % of the plain agent's average return called `holds`.
5. *Stop-gradient is slightly worse.* Average return with it less that without, at equal
   coefficients, is below 0.
6. *DR3 improves average, final return and stability.* With the coefficient chosen on the tuning
   seeds, average and final return (mean of the last two evaluations) less the plain agent's are
   above 0, and the loss from the peak (peak less final) less the plain agent's is below 0.
7. *The rank does not collapse with DR3.* Log ratio of srank, with over without, at the chosen
   coefficient, is at least log .95; the whole range of coefficients is shown.
8. *DR3 does better than the srank penalty.* Average and final return with DR3 less those with the
   penalty, each at the coefficient that its own tuning seeds chose among four, are above 0.

Reference: Kumar et al., "DR3: Value-Based Deep Reinforcement Learning Requires Explicit
Regularization", ICLR 2022, arXiv:2112.04716: section 3.1 (1, 2), 3.2 (3), figure on covariances
(4), table A.1 (5), section 5 (6 to 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlop.experiments.dr3_settings import COEFS, NOISY_COEFS, REPORTING, SRANK_COEFS, TUNING
from rlop.experiments.dr3_study import Record, Records
from rlop.report.statistics import mean_ci, stability

HOLDS = "holds"
CONTRADICTED = "contradicted"
UNDECIDED = "undecided"

LAST = 2  # evaluations that a final return averages
FLAT = (math.log(0.8), math.log(1.25))
RETURNS = {"average": "average return", "final": "final return", "unlearning": "loss from the peak"}


@dataclass(frozen=True)
class Answer:
    """One measure of a claim in one setting, and the band that its interval must lie in.

    Args:
        setting: what was trained.
        measure: in words.
        values: one a seed; of a logarithm where `is_ratio`.
        low: lower end of the band.
        high: upper end of the band.
        is_ratio: whether values are logarithms of ratios, shown as ratios.
    """

    setting: str
    measure: str
    values: tuple[float, ...]
    low: float = -math.inf
    high: float = math.inf
    is_ratio: bool = False

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over the seeds, and the ends of its 95 % Student-t interval."""
        return mean_ci(self.values)

    @property
    def verdict(self) -> str:
        """Whether the interval lies in the band, beyond it, or on its border."""
        _, low, high = self.interval
        if self.low <= low and high <= self.high:
            return HOLDS
        return CONTRADICTED if high < self.low or self.high < low else UNDECIDED


def answer(
    setting: str, measure: str, values: np.ndarray, low: float = -math.inf, high: float = math.inf
) -> Answer:
    """Return the answer of a difference, `[n]` values."""
    return Answer(setting, measure, tuple(map(float, values)), low, high)


def ratio(
    setting: str, measure: str, values: np.ndarray, low: float = -math.inf, high: float = math.inf
) -> Answer:
    """Return the answer of a ratio: `[n]` ratios, and the band in logarithms."""
    return Answer(setting, measure, tuple(map(float, np.log(values))), low, high, is_ratio=True)


# --- numbers of a record


def series(record: Record, metric: str, arm: str = "plain") -> np.ndarray:
    """Return a metric of one arm over the reporting seeds, `[T, 8]`."""
    return record.of(metric, arm, REPORTING)


def growth(values: np.ndarray) -> np.ndarray:
    """Divide the last values by those at half of the training, `[T, n]` to `[n]`."""
    return values[-1] / values[len(values) // 2]


def scores(record: Record, arm: str, seeds: Sequence[int] = REPORTING) -> dict[str, np.ndarray]:
    """Return average, final and peak return and the loss from the peak, `[n]` each.

    The evaluation of the untrained network is left out.
    """
    return stability(record.of("eval/return", arm, seeds)[1:], LAST)


def chosen(candidates: Sequence[tuple[Record, str]]) -> tuple[Record, str]:
    """Return the candidate with the best average return on the tuning seeds."""

    def mean_return(candidate: tuple[Record, str]) -> float:
        return float(scores(*candidate, TUNING)["average"].mean())

    return max(candidates, key=mean_return)


def best_dr3(record: Record) -> str:
    """Return the arm of DR3 that the tuning seeds choose; with one coefficient, that one."""
    arms = [arm for arm in record.arms if arm.startswith("dr3 ")]
    if not all(("plain", seed) in record.runs for seed in TUNING):
        return arms[0]  # of the paper, where nothing was tuned
    return chosen([(record, arm) for arm in arms])[1]


# --- the claims

BACKUP_SOURCES = ("noisy grid", "CartPole", "Breakout", "SpaceInvaders")
AGENTS = ("grid DQN", "grid CQL", "grid REM", "CartPole DQN", "CartPole CQL", "CartPole REM")
LARGE = ("Breakout CQL", "Breakout REM", "SpaceInvaders CQL", "SpaceInvaders REM", "Hopper CQL")


def out_of_sample(records: Records) -> list[Answer]:
    """Answer claim 1."""
    answers: list[Answer] = []
    for source in BACKUP_SOURCES:
        found = {}
        for backup in ("max", "behavior", "known", "sarsa", "mc"):
            if f"{source} {backup}" in records.settings:
                found[backup] = series(records.settings[f"{source} {backup}"], "feature/dot")
        if "sarsa" not in found:
            continue

        for backup in [name for name in ("max", "behavior", "known") if name in found]:
            over = found[backup][-1] / found["sarsa"][-1]
            answers.append(ratio(source, f"dot product, {backup} / sarsa", over, low=0))
        for backup in [name for name in ("max", "sarsa", "mc") if name in found]:
            band = {"low": math.log(1.1)} if backup == "max" else {"low": FLAT[0], "high": FLAT[1]}
            name = f"{backup}: dot product, end / half"
            answers.append(ratio(source, name, growth(found[backup]), **band))
        if "max" in found:
            q = np.abs(series(records.settings[f"{source} max"], "q/data"))
            answers.append(ratio(source, "max: mean Q, end / half", growth(q), *FLAT))
    return answers


def return_falls(records: Records) -> list[Answer]:
    """Answer claim 2."""
    answers: list[Answer] = []
    for name in [*AGENTS, *LARGE]:
        if name not in records.settings:
            continue
        record = records.settings[name]
        dots = growth(series(record, "feature/dot"))
        returns = series(record, "eval/return")
        third = (len(returns) - 1) // 3
        change = returns[-third:].mean(0) - returns[-2 * third : -third].mean(0)
        answers.append(ratio(name, "dot product, end / half", dots, low=0))
        answers.append(answer(name, "return, last third - middle third", change, high=0))
    return answers


def predicts_drift(records: Records) -> list[Answer]:
    """Answer claim 3."""
    answers: list[Answer] = []
    for backup in sorted({backup for backup, _ in records.drifts}):
        found = [values for (name, _), values in records.drifts.items() if name == backup]
        stable = [values for values in found if "cosine" in values]
        for measure, word in (
            ("cosine", "cosine of predicted and simulated drift"),
            ("cosine, supervised part alone", "control: supervised part alone"),
        ):
            values = np.array([one[measure] for one in stable])
            answers.append(answer(f"noisy grid, {backup}", word, values, low=0.95))
    return answers


def against(records: Records, first: str, second: str, coefs: Sequence[float]) -> list[Answer]:
    """Compare the average return of two kinds of arms at equal coefficients."""
    answers: list[Answer] = []
    for name in [*AGENTS, *LARGE]:
        record = records.settings.get(name)
        if record is None:
            continue
        for coef in coefs:
            arms = f"{first} {coef:g}", f"{second} {coef:g}"
            if all(arm in record.arms for arm in arms):
                values = scores(record, arms[0])["average"] - scores(record, arms[1])["average"]
                answers.append(answer(name, f"average return at {coef:g}", values))
    return answers


def covariances(records: Records) -> list[Answer]:
    """Answer claim 4."""
    judged: list[Answer] = []
    for one in against(records, "label noise", "dr3", NOISY_COEFS):
        plain = scores(records.settings[one.setting], "plain")["average"].mean()
        limit = 0.1 * abs(float(plain))
        judged.append(Answer(one.setting, one.measure, one.values, -limit, limit))
    return judged


def stopped_gradient(records: Records) -> list[Answer]:
    """Answer claim 5."""
    judged: list[Answer] = []
    for one in against(records, "stop-gradient", "dr3", COEFS):
        judged.append(Answer(one.setting, one.measure, one.values, high=0))
    return judged


def tuned(records: Records) -> Iterator[tuple[str, Record, str]]:
    """Yield every recorded setting of an agent, with its record and its best arm of DR3."""
    for name in [*AGENTS, *LARGE]:
        if name in records.settings:
            record = records.settings[name]
            yield name, record, best_dr3(record)


def performance(records: Records) -> list[Answer]:
    """Answer claim 6."""
    answers: list[Answer] = []
    for name, record, arm in tuned(records):
        with_dr3, without = scores(record, arm), scores(record, "plain")
        for key, word in RETURNS.items():
            band = {"high": 0.0} if key == "unlearning" else {"low": 0.0}
            values = with_dr3[key] - without[key]
            answers.append(answer(name, f"{word}, {arm} - plain", values, **band))
    return answers


def rank_kept(records: Records) -> list[Answer]:
    """Answer claim 7."""
    answers: list[Answer] = []
    for name, record, arm in tuned(records):
        over = series(record, "rank/srank", arm)[-1] / series(record, "rank/srank")[-1]
        answers.append(ratio(name, f"srank, {arm} / plain", over, low=math.log(0.95)))
    return answers


def against_srank(records: Records) -> list[Answer]:
    """Answer claim 8."""
    answers: list[Answer] = []
    for name in ("grid DQN", "grid CQL", "CartPole DQN", "CartPole CQL"):
        arms = [f"srank {coef:g}" for coef in SRANK_COEFS]
        found = [(records.settings.get(f"{name} {arm}"), arm) for arm in arms]
        record = records.settings.get(name)
        candidates = [(one, arm) for one, arm in found if one is not None]
        if record is None or len(candidates) < len(arms):
            continue

        # Equal steps: a training on a GPU took as many as its time allowed.
        equal = [(one.until(record.steps[-1]), arm) for one, arm in candidates]
        penalty, penalized = chosen(equal)
        arm = best_dr3(record)
        ours, theirs = scores(record, arm), scores(penalty, penalized)
        for key in ("average", "final"):
            words = f"{RETURNS[key]}, {arm} - {penalized}"
            answers.append(answer(name, words, ours[key] - theirs[key], low=0))
    return answers


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Args:
        title: in one sentence.
        source: where the paper has it.
        answers: its answers from the records.
    """

    title: str
    source: str
    answers: Callable[[Records], list[Answer]]


CLAIMS = (
    Claim(
        "The dot product of consecutive features rises where a' is out of sample, and stays flat "
        "for SARSA and Monte-Carlo returns, while Q converges.",
        "section 3.1",
        out_of_sample,
    ),
    Claim("The return falls as the dot product rises.", "section 3.1", return_falls),
    Claim("R_TD predicts how noisy TD drifts.", "theorem 3.1", predicts_drift),
    Claim(
        "The covariance of label noise and the identity do equally well.",
        "figure on covariances",
        covariances,
    ),
    Claim("Stopping the gradient through phi(s', a') is worse.", "table A.1", stopped_gradient),
    Claim(
        "DR3 raises average and final return and makes training more stable.",
        "section 5, table 1",
        performance,
    ),
    Claim("The rank does not collapse with DR3.", "section 5", rank_kept),
    Claim("DR3 does better than the srank penalty.", "section 5", against_srank),
)
