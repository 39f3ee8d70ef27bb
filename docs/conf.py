"""Settings of the site: `make docs` builds it into docs/_build/html, warnings being errors."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]  # the checkout, and the files beside this one

import directives  # noqa: E402
import docstrings  # noqa: E402
import generated  # noqa: E402
import mathml  # noqa: E402

import rlop  # noqa: E402

project = "rlop"
author = "the rlop authors"
release = rlop.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
]
# What the gallery writes beside each page would count as the same page again.
BESIDE = [f"_generated/gallery/*.{ending}" for ending in ("ipynb", "json", "py", "zip", "md5")]
INCLUDED = ["_generated/catalogue.md", "_generated/project/README.md"]
exclude_patterns = ["_build", "gallery", *INCLUDED, *BESIDE]
html_theme = "furo"
html_title = f"rlop {release}"

myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
myst_heading_anchors = 3
# Commands of the pages are shell sessions with options that the Bash lexer marks as errors.
suppress_warnings = ["misc.highlighting_failure", "config.cache"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Differs from", "notes_style"), ("Reference", "notes_style")]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "_generated/gallery",
    "filename_pattern": "plot_",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
}

generated.write_pages(DOCS / "_generated")


def point_to_copies(app, name, source):
    """Point links at pages of the top level to the copies that the site has."""
    source[0] = generated.to_project(source[0])


def setup(app):
    """Register tables that follow from the code, formulas, docstrings for autodoc, and links."""
    app.add_directive("options", directives.Options)
    app.add_directive("measured", directives.Measured)
    app.add_html_math_renderer("mathml", (mathml.visit_inline, None), (mathml.visit_block, None))
    app.connect("source-read", point_to_copies)
    app.connect("autodoc-process-docstring", docstrings.to_markup, priority=1)
