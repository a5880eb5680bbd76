"""Messages of journeys name flags of the command line; a visitor of the page sees labels."""

import re
from collections.abc import Mapping

from feller.app.webui.controls import Control

WORDS = re.compile(r"(?P<command>`[^`]*`|\bfeller [a-z]+\b[^;()`]*)|(?<![\w-])(?P<flag>--?[a-z][a-z-]*)(?![\w-]|\.\w)")
"""Whole commands, which stay as they are, and flags beside them."""


FITS = re.compile(r";[^;]*\bfit (?:with )?--[^;]*")
"""Advice to whoever fits, which no visitor can follow."""


def with_labels(text: str, controls: Mapping[str, Control]) -> str:
    """Return a message in which each flag that a control stands for is its label, without advice for fitting."""
    named = {flag: control.label for control in reversed([*controls.values()]) for flag in control.flags}

    def said(match: re.Match[str]) -> str:
        flag = match["flag"]
        return f'"{named[flag]}"' if flag in named else match[0]

    return WORDS.sub(said, FITS.sub("", text))
