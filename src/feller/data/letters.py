"""Fonts for letters that the usual one lacks, where the machine has some, so that words are no empty boxes."""

import functools
import warnings
from typing import Any

OTHERS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "Source Han Sans", "IPAGothic"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "Yu Gothic"),
    *("Microsoft YaHei", "MS Gothic", "Malgun Gothic", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai"),
    *("Arial Unicode MS", "Unifont"),
)
"""Families with letters of many scripts, as systems have them, the better ones first."""


@functools.cache
def _others() -> tuple[str, ...]:
    """Return those that are there."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in OTHERS if name in there)


@functools.cache
def _usual() -> Any:
    """Return the letters of the usual font."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def save(figure: Any, file: Any) -> None:
    """Write a figure as a PNG; letters that no font has are boxes, of which nobody is told."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if any(ord(letter) not in _usual() for letter in text.get_text() if letter.isprintable()):
            text.set_fontfamily([*text.get_fontfamily(), *_others()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that all fonts lack
        figure.savefig(file, format="png")
