"""Formulas as MathML, which browsers draw themselves: the site needs no script from the network."""

from __future__ import annotations

from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

LOGGER = getLogger(__name__)


def formula(node, is_block):
    """Return the MathML of a formula; one that is not understood is a warning, and stays LaTeX."""
    text = node.astext()
    try:
        return tex2mathml(text, as_block=is_block)
    except MathError as error:
        LOGGER.warning("formula %s: %s", text, error, location=node)
        return f"<code>{escape(text)}</code>"


def visit_inline(translator, node):
    """Write a formula within a line."""
    translator.body.append(formula(node, is_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """Write a formula of its own line."""
    # With room above and below, or the theme's box around it would get a scroll bar.
    drawn = formula(node, is_block=True)
    translator.body.append(f'<div class="math" style="padding: 0.4em 0">{drawn}</div>\n')
    raise nodes.SkipNode
