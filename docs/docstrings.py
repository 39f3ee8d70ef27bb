"""Docstrings are prose with backticks and indented formulas; Sphinx reads reStructuredText."""

from __future__ import annotations

import re

SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Reference|Differs from|Examples?): *(.*)$")
NAMED = re.compile(r"^( *)([\w*, ]+?)( \([^)]*\))?: (.*)$")


def to_markup(app, what, name, obj, options, lines) -> None:
    """Rewrite the lines of one docstring in place, before napoleon reads its sections."""
    lines[:] = markup(lines)


def markup(lines: list[str]) -> list[str]:
    """Return a plain docstring as reStructuredText with napoleon's sections.

    An indented block outside a section is a formula or code and becomes a literal block; text after
    the colon of a section moves to a line of its own.
    """
    out: list[str] = []
    in_section = False
    in_literal = False
    for line in lines:
        section = SECTION.match(line)
        indented = line.startswith("    ")
        if section:
            in_section, in_literal = True, False
            out += ["", f"{section[1]}:"]
            if section[2]:
                out.append(f"    {plain(section[2])}")
            continue
        if line and not indented:
            in_section = in_literal = False
        if indented and not in_section:
            if not in_literal:
                out += ["", "::", ""]
            in_literal = True
            out.append(line)
            continue
        if line and in_literal:
            in_literal = False
        if line and not indented and out and out[-1].startswith("    "):
            out.append("")
        out.append(plain(line))
    return out


def plain(text: str) -> str:
    """Make backticks literals, and escape everything else that is markup."""
    pieces = re.split(r"(`[^`]+`)", text)
    shown = []
    for piece in pieces:
        if piece.startswith("`") and piece.endswith("`") and len(piece) > 2:
            shown.append(f"`{piece}`")
        else:
            shown.append(re.sub(r"([*|\\])|(?<=\w)(_)(?=\W|$)", r"\\\1\2", piece))
    # A literal must be followed by a space or punctuation.
    return re.sub(r"(``[^`]+``)(?=\w)", r"\1\\ ", "".join(shown))
