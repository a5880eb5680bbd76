"""Claims that a run has told, as `feller reproduce PAPER --json` prints them."""

import json
import pathlib

from feller.core.errors import UsageError
from feller_papers.claims import Claim


def claim_of(file: pathlib.Path | None, begins: str) -> Claim:
    """Return the claim that begins so."""
    if file is None or not file.is_file():
        raise UsageError("this picture is drawn from the claims of a whole run: --claims names what --json printed")
    for one in json.loads(file.read_text())["claims"]:
        if one["claim"].startswith(begins):
            return Claim(**one)
    raise UsageError(f"{file} holds no claim that begins with {begins!r}")
