"""Names of groups: as few settings as tell them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rlop.report.groups import all_keys, short_names

FIRST = ("variant", "agent", "name")  # keys whose values need no key in front


def short_labels(settings: Sequence[Mapping[str, str]], everything: bool = False) -> list[str]:
    """Name the group of every run by the fewest of its settings.

    The setting that splits the runs into most groups is chosen first; among equal ones the earlier,
    and a name before a number. A value that most groups share is left out.

    Args:
        settings: of every run; equal ones are one group.
        everything: name every key, also those that are the same for all.

    Returns:
        A label per run; "all runs" where all are one group.
    """
    keys = all_keys(settings)
    if everything:
        return _told_apart([_label(values, keys, keys) for values in settings], settings)

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
    full = [_label(values, chosen, keys) for values in settings]
    usual = {key: _most_common(settings, key) for key in chosen if key not in FIRST}
    short = []
    for values in settings:
        unusual = {key: value for key, value in values.items() if usual.get(key) != value}
        short.append(_label(unusual, chosen, keys))
    return short if len(set(short)) == n_groups else _told_apart(full, settings)


def _most_common(settings: Sequence[Mapping[str, str]], key: str) -> str | None:
    """Return the value that more than half of the groups have; None if there is none."""
    groups = {tuple(sorted(values.items())) for values in settings}
    values = [dict(group).get(key) for group in groups]
    common, count = Counter(values).most_common(1)[0]
    return common if 2 * count > len(values) else None


def _groups(settings: Sequence[Mapping[str, str]], keys: Sequence[str]) -> int:
    """Count the groups that these keys tell apart."""
    apart: set[tuple[str | None, ...]] = set()
    for values in settings:
        apart.add(tuple(map(values.get, keys)))
    return len(apart)


def _label(values: Mapping[str, str], keys: Sequence[str], all_of_them: Sequence[str]) -> str:
    names = dict(zip(all_of_them, short_names(all_of_them)))
    parts = []
    for key in keys:
        if key in values:
            parts.append(values[key] if key in FIRST else f"{names[key]}={values[key]}")
    names_alone = [values[key] for key in FIRST if key in values]
    return ", ".join(parts) or (names_alone or ["default"])[0]


def _told_apart(labels: Sequence[str], settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Number the labels that different settings would share."""
    taken: dict[str, list[Mapping[str, str]]] = {}
    unique = []
    for label, values in zip(labels, settings):
        sharing = taken.setdefault(label, [])
        if values not in sharing:
            sharing.append(values)
        number = sharing.index(values) + 1
        unique.append(label if number == 1 else f"{label} ({number})")
    return unique
