"""Beyond the papers: capabilities of feller that no reproduced paper claims, with measured figures."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.beyond import emoji
from feller_papers.beyond.emoji_pictures import NAMES, PICTURES
from feller_papers.beyond.emoji_setting import QUICK, EmojiSetting
from feller_papers.claims import Claim, tested

EMOJI_TESTS = (emoji.reconstruction, emoji.guidance, emoji.retrieval, emoji.captions, emoji.holes)
"""Claim tests of documents of emoji, (setting) -> claims."""


def beyond(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims in order, or only those of tests with `only` in their name."""
    folder = data if data is not None and all((data / name).is_dir() for name in (PICTURES, NAMES)) else None
    return tested(EMOJI_TESTS, replace(QUICK if quick else EmojiSetting(), folder=folder), only, ())
