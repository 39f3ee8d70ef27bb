"""Formulas of the pages become MathML, so that the site asks no other server for a script."""

import re
import sys

import pytest
from helpers.pages import PAGES, ROOT

pytest.importorskip("sphinx")
sys.path.append(str(ROOT / "docs"))
import mathml
from docutils import nodes

CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
BLOCK, INLINE = re.compile(r"\$\$(.+?)\$\$", re.DOTALL), re.compile(r"\$([^$\n]+)\$")


def formulas():
    """Every formula of the pages, and whether it has a line of its own."""
    for page in PAGES:
        text = CODE.sub("", page.read_text())
        for latex in BLOCK.findall(text):
            yield latex, True
        for latex in INLINE.findall(BLOCK.sub("", text)):
            yield latex, False


def test_every_formula_of_the_pages_is_understood(caplog):
    found = list(formulas())
    assert len(found) > 20
    for latex, is_block in found:
        drawn = mathml.formula(nodes.math(latex, latex), is_block)
        assert drawn.startswith("<math xmlns="), latex
        assert ('display="block"' in drawn) == is_block
    assert not caplog.messages


def test_a_formula_that_is_not_understood_is_a_warning_and_stays_as_it_was_written(caplog):
    caplog.set_level("WARNING")
    assert mathml.formula(nodes.math("", r"\nosuch{x} < 1"), False) == (
        r"<code>\nosuch{x} &lt; 1</code>"
    )


def test_the_site_draws_formulas_this_way():
    assert 'html_math_renderer = "mathml"' in (ROOT / "docs" / "conf.py").read_text()
