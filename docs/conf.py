"""Settings of the documentation."""

import pathlib
import re
import sys
from typing import Any

from docutils.nodes import Text, document, inline
from sphinx.addnodes import desc_annotation

from feller import __version__

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for mathml.py

project = "feller"
author = "the feller authors"
copyright = "the feller authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["_build"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "feller"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(pathlib.Path(__file__).parent / "_static" / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
napoleon_google_docstring = True
LONGEST_VALUE = 80
"""Characters of a constant that its entry shows."""
suppress_warnings = ["ref.python"]  # names of axes in the types of tensors are no references


def without_marks(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let bars and stars outside code be themselves: |x| is a length, [*levels] a shape."""
    for i, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"(?<!\\)[|*]", r"\\\g<0>", part) for part in parts[::2]]
        lines[i] = "`".join(parts)


def without_inner_life(app: Any, doctree: document) -> None:
    """Take tables and functions out of signatures: names and what is said of them tell more."""
    for value in list(doctree.findall(desc_annotation)):
        text = value.astext()
        if text.lstrip().startswith("=") and (len(text) > LONGEST_VALUE or "<" in text):
            value.parent.remove(value)
    for default in doctree.findall(inline):
        if "default_value" in default["classes"] and "<" in default.astext():
            default.children = [Text("...")]


def setup(app: Any) -> None:
    """Read docstrings as plain words, and signatures as people do."""
    app.connect("autodoc-process-docstring", without_marks, priority=900)
    app.connect("doctree-read", without_inner_life)
