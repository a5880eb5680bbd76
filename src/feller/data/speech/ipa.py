"""Transcriptions in the International Phonetic Alphabet, taken apart into phones."""

import re
import unicodedata
from collections.abc import Collection

DIPHTHONGS = (
    *("aɪ", "aʊ", "eɪ", "oʊ", "əʊ", "ɔɪ", "ɪə", "eə", "ʊə", "ɛɪ", "œy", "ʌu", "ɔʏ", "ɔø"),
    *("aj", "aw", "ej", "ow", "əw", "ɔj"),
)
AFFRICATES = ("tʃ", "dʒ", "ts", "dz", "tɕ", "dʑ", "tʂ", "dʐ", "tθ", "dð", "pf", "cç")
KNOWN = (*DIPHTHONGS, *AFFRICATES)
"""Phones of two letters, where a language says nothing else."""
TIES = "͜͡"
"""Marks that bind the letters before and behind them into one phone."""
IGNORED = re.compile(r"\([^)]*\)|[ˈˌˑ'’ʼ‿|‖.\-_\s\u200b-\u200d]")
"""Names of languages in brackets, stress, pauses, and borders of syllables."""
LONG = "ːˑ"
TONES = "˥˦˧˨˩"


def phones_in(ipa: str, known: Collection[str] = KNOWN) -> tuple[str, ...]:
    """Take a transcription apart: the longest phone that is known, else a letter, each with the marks behind it.

    Marks are combining ones, raised letters, length and tones. Letters that a tie binds are one phone, without the tie,
    unless it is unknown and its parts are known. Stress is left out.

    Args:
        ipa: Of one word or several.
        known: Phones of more than a letter, with or without marks; or all phones of some data, which then decide.
    """
    plain = unicodedata.normalize("NFD", IGNORED.sub("", ipa))
    wanted = {unicodedata.normalize("NFD", phone): None for phone in known}
    longest = max(map(len, wanted), default=0)
    found: list[str] = []
    at = 0
    while at < len(plain):
        sizes = range(min(longest, len(plain) - at), 1, -1)
        size = next((n for n in sizes if plain[at : at + n] in wanted and not _tied(plain, at + n)), 1)
        end = _marked(plain, at + size)
        parts = re.split(f"[{TIES}]", plain[at:end])
        whole = "".join(parts)
        apart = whole not in wanted and all(part in wanted for part in parts)
        found += [unicodedata.normalize("NFC", part) for part in (parts if apart else [whole])]
        at = end
    return tuple(found)


def _tied(plain: str, at: int) -> bool:
    """Tell whether a tie leads beyond a place, behind other marks."""
    while at < len(plain) and _is_mark(plain[at]):
        if plain[at] in TIES:
            return True
        at += 1
    return False


def _marked(plain: str, at: int) -> int:
    """Return where the marks end that stand at a place; a tie takes the next letter with it, and its marks."""
    while at < len(plain) and _is_mark(plain[at]):
        at += 2 if plain[at] in TIES and at + 1 < len(plain) else 1
    return at


def _is_mark(letter: str) -> bool:
    """Tell whether a letter belongs to the one before: combining, raised, long, a tone."""
    return unicodedata.combining(letter) > 0 or unicodedata.category(letter) in ("Mn", "Lm", "Sk") or letter in TONES
