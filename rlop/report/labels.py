"""Names of groups: as few settings as tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlop.report.groups import all_keys, short_names

FIRST = ("variant", "agent", "name")  # keys whose values need no key in front


def short_labels(settings: Sequence[Mapping[str, str]], everything: bool = False) -> list[str]:
    """Name the group of every run by the fewest of its settings.

    The setting that splits the runs into most groups comes first; among equal ones the earlier,
    and a name before a number.

    Args:
        settings: of every run; equal ones are one group.
        everything: name every key, also those that are the same for all.

    Returns:
        A label per run; "all runs" where all are one group.
    """
    keys = all_keys(settings)
    if everything:
        return [_label(values, keys, keys) for values in settings]

    n_groups = len({tuple(sorted(values.items())) for values in settings})
    if n_groups == 1:
        return ["all runs"] * len(settings)
    chosen: list[str] = []
    while _groups(settings, chosen) < n_groups:
        rest = [key for key in keys if key not in chosen]
        best = max(
            rest,
            key=lambda key: (_groups(settings, [*chosen, key]), key in FIRST, -keys.index(key)),
        )
        chosen.append(best)

    chosen.sort(key=lambda key: (key not in FIRST, keys.index(key)))
    return [_label(values, chosen, keys) for values in settings]


def _groups(settings: Sequence[Mapping[str, str]], keys: Sequence[str]) -> int:
    """Count the groups that these keys tell apart."""
    return len({tuple(values.get(key) for key in keys) for values in settings})


def _label(values: Mapping[str, str], keys: Sequence[str], all_of_them: Sequence[str]) -> str:
    names = dict(zip(all_of_them, short_names(all_of_them)))
    parts = []
    for key in keys:
        if key in values:
            parts.append(values[key] if key in FIRST else f"{names[key]}={values[key]}")
    return ", ".join(parts) or "default"
