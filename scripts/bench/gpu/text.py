"""The report of `gpu` in Markdown, from the rows of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rlop.types import InputError

Line: TypeAlias = Mapping[str, Any]


def report(rows: Sequence[Line], headings: Mapping[str, str]) -> str:
    """Return the machine, then a heading and a table for each piece.

    Args:
        rows: of the record, each with its `piece`.
        headings: piece -> heading.
    """
    parts = [block(rows, "machine")]
    for piece, heading in headings.items():
        if any(row["piece"] == piece for row in rows):
            parts += [f"### {heading}", block(rows, piece)]
    return "\n\n".join(parts) + "\n"


def filled(page: str, rows: Sequence[Line]) -> str:
    """Return a page with its tables replaced by those of the record; its prose stays.

    The table of a piece stands between the lines `<!-- PIECE -->` and `<!-- /PIECE -->`, the
    description of the machine between `<!-- machine -->` and `<!-- /machine -->`.

    Raises:
        InputError: if there is no such place for a piece of the record.
    """
    for piece in dict.fromkeys(row["piece"] for row in rows):
        start, end = f"<!-- {piece} -->", f"<!-- /{piece} -->"
        before, has_start, rest = page.partition(start)
        _, has_end, after = rest.partition(end)
        if not (has_start and has_end):
            raise InputError(f"the page has no place for {piece}: expected {start} and {end} in it")
        page = f"{before}{start}\n\n{block(rows, piece)}\n\n{end}{after}"
    return page


def block(rows: Sequence[Line], piece: str) -> str:
    """Return the table of one piece, and the errors below it; for `machine` its last line."""
    of_piece = [without_piece(row) for row in rows if row["piece"] == piece]
    if piece == "machine":
        return ", ".join(f"{key} {cell(value)}" for key, value in of_piece[-1].items())

    measured = [row for row in of_piece if "error" not in row]
    parts = [table(measured)] if measured else []
    for row in of_piece:
        if "error" in row:
            where = f"{row['part']}: " if "part" in row else ""
            parts.append(f"Failed: {where}{row['error']}")
    return "\n\n".join(parts)


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
