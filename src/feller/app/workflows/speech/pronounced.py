"""From a text to the phones of its words, and to pieces that a model can say at once."""

import re
from collections.abc import Callable

from feller.core.errors import InputError, UsageError
from feller.data.speech.espeak import phones_of, written_words
from feller.data.speech.lexicon import Lexicon, Pronunciation, cmu_entries
from feller.data.speech.speech_modality import Speech

SHORT = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "vs")
"""What is written with a point behind it inside a sentence."""
SENTENCE = re.compile("".join(rf"(?<!\b{name}\.)" for name in SHORT) + r"(?<=[.!?;:])\s+|\n+")
"""Where a text may be cut."""
LISTED, LETTERS = 20, 40
"""Words that are named where others are counted only, and what is shown of each."""


def pronounced(
    kind: Speech, text: str, *, spelled: bool = False, language: str | None = None
) -> tuple[tuple[str, ...], ...]:
    """Return the phones of each word of a text.

    Args:
        kind: Knows the phones of the model.
        text: What is to be said.
        spelled: Say words that are missing in the dictionary letter by letter.
        language: Of texts whose phones are not those of English, as eSpeak names it.

    Raises:
        InputError: If words are missing, or it is not known how something in it is said.
        UsageError: If a package is not installed.
    """
    if not kind.inventory.english:
        return _foreign(kind, text, language)
    phones, missing = Lexicon(cmu_entries(), kind.own).phones(text, spelled=spelled)
    if missing:
        named = ", ".join(word[:LETTERS] for word in missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
        what = "word is" if len(missing) == 1 else "words are"
        remedy = "" if spelled else ", or have them spelled with --spell"
        raise InputError(f"{len(missing):,} {what} missing in the dictionary: {named}; write them otherwise{remedy}")
    return phones


def _foreign(kind: Speech, text: str, language: str | None) -> tuple[Pronunciation, ...]:
    """Return the phones of words in other phones than those of English: a user wrote them, or eSpeak knows them."""
    known, found = Lexicon({}, kind.own), []
    for word in written_words(text):
        own = known.of(word.lower())
        if not own and language is None:
            raise UsageError(f"which language is {word!r}? give --language, as eSpeak names it, such as de or fr-fr")
        found.append(own[0] if own else phones_of(word, language or "", kind.inventory.phones)[0])
    odd = sorted({phone for word in found for phone in word} - {*kind.inventory.phones})
    if odd:
        raise InputError(f"the model has never heard {', '.join(odd[:LISTED])}; write other words, or their phones")
    return tuple(found)


def together(texts: list[str], fits: Callable[[str], bool]) -> list[str]:
    """Return texts that follow each other as few longer ones: what is said at once has one voice."""
    longer = texts[:1]
    for text in texts[1:]:
        joined = f"{longer[-1]} {text}"
        longer[-1:] = [joined] if fits(joined) else [longer[-1], text]
    return longer


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, those without words left out."""
    return [part for part in (each.strip() for each in SENTENCE.split(text)) if re.search(r"\w", part)]


def halves(text: str) -> tuple[str, str]:
    """Cut a text in two between words, behind a comma where one is near the middle.

    Raises:
        InputError: If it is one word.
    """
    words = text.split()
    if len(words) < 2:
        raise InputError(f"{text[:40]!r} is too long to be said at once; write it in shorter words")
    middle = len(words) / 2
    places = sorted(range(1, len(words)), key=lambda i: abs(i - middle) - (words[i - 1][-1] in ",-") * len(words) / 4)
    return " ".join(words[: places[0]]), " ".join(words[places[0] :])
