"""The frame of a self-contained HTML page: text, tables and pictures, with nothing from elsewhere.

Names in records are a stranger's. Every function here escapes the text that it is given, unless it
is `Html` already, which only these functions make.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape as escape_text
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree

from rlop.config.files import write_atomic
from rlop.report.figures import PLAIN_TEXT, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)

# Control characters, which HTML and XML forbid, and halves of characters, which no encoding has.
UNSEEN = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REPLACEMENT = "\ufffd"
# Text of pictures is smaller than on the page's PNG: a page shows several side by side.
PICTURE_STYLE = {"font.size": 9, "axes.titlesize": 10, "lines.linewidth": 1.6}


class Html(str):
    """Text that is HTML already, and is not escaped again."""


Text: TypeAlias = str | Html
Cell: TypeAlias = Text | tuple[Text, str]  # content, or content and its CSS


def visible(text: str) -> str:
    """Replace the characters that a page or a picture cannot hold."""
    return UNSEEN.sub(REPLACEMENT, text)


def one_line(text: str) -> str:
    """Return a name as it can stand in a table, a picture and a page."""
    return visible(text).replace("\n", " ").replace("\t", " ")


def escape(text: Text) -> Html:
    """Turn text into HTML; leave HTML alone."""
    if isinstance(text, Html):
        return text
    return Html(escape_text(visible(str(text)), quote=True))


def join(parts: Sequence[Text], between: str = "\n") -> Html:
    """Join parts, each escaped unless it is HTML."""
    return Html(between.join(escape(part) for part in parts))


def tag(name: str, *parts: Text, **attributes: str) -> Html:
    """Return an element with this content.

    Args:
        name: of the element.
        parts: content.
        attributes: by name; a trailing underscore is dropped (`class_`), others become hyphens.
    """
    pairs = []
    for key, value in attributes.items():
        hyphened = key.rstrip("_").replace("_", "-")
        pairs.append(f' {hyphened}="{escape(value)}"')
    return Html(f"<{name}{''.join(pairs)}>{join(parts)}</{name}>")


def paragraph(*parts: Text) -> Html:
    """Return a paragraph."""
    return Html(f"<p>{join(parts, ' ')}</p>")


def bullets(items: Sequence[Text]) -> Html:
    """Return a list with a point per item."""
    return tag("ul", *[tag("li", item) for item in items])


def section(heading: Text, *parts: Text, anchor: str) -> Html:
    """Return a section.

    Args:
        heading: shown above it.
        parts: content.
        anchor: name that links within the page use.
    """
    return tag("section", tag("h2", heading), *parts, id=anchor)


def table(header: Sequence[Cell], rows: Sequence[Sequence[Cell]]) -> Html:
    """Return a table whose first column names the rows; it scrolls where it is too wide.

    Args:
        header: of each column, like the cells.
        rows: cells of each row, escaped unless they are HTML.
    """
    head = tag("tr", *[_cell("th", cell, scope="col") for cell in header])
    body = [_row(row) for row in rows]
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0")


def _row(cells: Sequence[Cell]) -> Html:
    first, *others = cells
    shown = [_cell("th", first, scope="row")]
    for cell in others:
        shown.append(_cell("td", cell))
    return tag("tr", *shown)


def _cell(name: str, cell: Cell, **attributes: str) -> Html:
    content, style = cell if isinstance(cell, tuple) else (cell, "")
    if style:
        attributes["style"] = style
    return tag(name, content, **attributes)


def grid(*parts: Text) -> Html:
    """Return parts side by side, as many as the page's width has room for."""
    return tag("div", *parts, class_="grid")


def panel(title: Text, picture: Html, key: str = "", note: Text = "") -> Html:
    """Return a picture under its title.

    Args:
        title: in words.
        picture: from `svg`.
        key: raw name, shown when the pointer rests on the title.
        note: small text below the picture.
    """
    heading = tag("h3", title, title=key) if key else tag("h3", title)
    parts = [heading, picture]
    if note:
        parts.append(tag("p", note, class_="note"))
    return tag("figure", *parts)


def svg(
    draw: Callable[[Figure], None],
    width: float,
    height: float,
    words: str,
    hover: Mapping[str, str] | None = None,
) -> Html:
    """Draw a picture with matplotlib and return it as SVG. The same drawing gives the same text.

    An artist with the gid `gN` or `gN:anything` belongs to group N, which the page's legend can
    isolate.

    Args:
        draw: draws on an empty figure.
        width, height: in inches.
        words: what the picture shows, for those who cannot see it.
        hover: gid -> text that is shown when the pointer rests on that artist.

    Raises:
        InputError: matplotlib is not installed.
    """
    buffer = io.BytesIO()
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "rlop", **PLAIN_TEXT, **PICTURE_STYLE}
    with styled(width, height, settings=fixed) as figure, warnings.catch_warnings():
        # A browser has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})

    root = ElementTree.fromstring(visible(buffer.getvalue().decode()))
    _adapt(root, words, hover or {})
    text = ElementTree.tostring(root, encoding="unicode")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Html(text.replace(PLACE, f"p{digest}-"))


PLACE = "PLACE-OF-PICTURE-"  # stands for the prefix of identifiers, until the picture's is known


def _adapt(root: ElementTree.Element, words: str, hover: Mapping[str, str]) -> None:
    """Make a picture a part of a page: fluid, described, and with identifiers of its own."""
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", visible(words))
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)

    for element in root.iter():
        gid = element.get("id", "")
        if re.match(r"g\d+(:|$)", gid):
            del element.attrib["id"]
            element.set("class", f"run {gid.partition(':')[0]}")
        elif gid:
            element.set("id", PLACE + gid)
        if gid in hover:
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = visible(hover[gid])
            element.insert(0, title)
        _point_to_own(element)


def _point_to_own(element: ElementTree.Element) -> None:
    """Let references to identifiers follow their new names."""
    for name, value in element.attrib.items():
        if name == f"{{{XLINK}}}href" and value.startswith("#"):
            element.set(name, f"#{PLACE}{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{PLACE}"))


def page(title: str, parts: Sequence[Text], data: object = None) -> Html:
    """Return a whole page.

    Args:
        title: in the head, and above everything.
        parts: content, top to bottom.
        data: numbers that the page holds as JSON, in the element `numbers`; None for none.
    """
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    # The browser loads nothing and runs our script alone, whatever a name in a record may be.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )

    head = [
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<link rel="icon" href="data:,">'),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    ]

    body = [tag("h1", title), *parts]
    if data is not None:
        body.append(_json(data))
    body.append(Html(f"<script>{script}</script>"))

    document = [tag("head", *head), tag("body", tag("main", *body))]
    return Html(f'<!DOCTYPE html>\n<html lang="en">\n{join(document)}\n</html>\n')


def write_page(path: str | Path, content: Html) -> Path:
    """Write a page, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    write_atomic(path, content.encode())
    return Path(path)


def _json(data: object) -> Html:
    """Return data as JSON within a script element, which no text in it can end."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="numbers">{text}</script>')


def _resource(name: str) -> str:
    return files("rlop.report").joinpath(name).read_text(encoding="utf-8")
