"""Formulas as MathML, which browsers draw by themselves: the pages load no script from elsewhere."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

NAMED = re.compile(r"(<mi>(?:log|exp|min|max|sin|cos|arccos)</mi>)(?=<m(?:i|sub|sup|subsup|over)\b)")


def mathml(formula: str, display: str) -> str:
    """Return a formula as MathML, with a thin space behind the name of a function, as TeX sets it."""
    return NAMED.sub(r'\1<mspace width="0.17em"/>', convert(formula, display=display))


def inline(translator: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def displayed(translator: Any, node: nodes.math_block) -> None:
    """Write a formula in a line of its own."""
    translator.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer it to Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
