"""The report of `gpu` in Markdown, from the rows of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Line: TypeAlias = Mapping[str, Any]


def report(rows: Sequence[Line], headings: Mapping[str, str]) -> str:
    """Return one table for each piece, and the errors below it.

    Args:
        rows: of the record, each with its `piece`; the last description of the machine counts.
        headings: piece -> heading.
    """
    machines = [row for row in rows if row["piece"] == "machine"]
    parts = [
        ", ".join(f"{key} {cell(value)}" for key, value in without_piece(machines[-1]).items())
    ]
    for piece, heading in headings.items():
        of_piece = [without_piece(row) for row in rows if row["piece"] == piece]
        if not of_piece:
            continue
        parts.append(f"### {heading}")
        measured = [row for row in of_piece if "error" not in row]
        if measured:
            parts.append(table(measured))
        for row in of_piece:
            if "error" in row:
                where = f"{row['part']}: " if "part" in row else ""
                parts.append(f"Failed: {where}{row['error']}")
    return "\n\n".join(parts) + "\n"


def without_piece(row: Line) -> Line:
    """Return a row without the name of its piece."""
    return {key: value for key, value in row.items() if key != "piece"}


def table(rows: Sequence[Line]) -> str:
    """Return a Markdown table with a column for every key, in the order they appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(cell(row.get(column)) for column in columns) + " |")
    return "\n".join(lines)


def cell(value: object) -> str:
    """Write one value: three digits of a number that is not whole, yes or no, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
