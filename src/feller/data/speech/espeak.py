"""Phones of texts in many languages by a separately installed eSpeak NG, and IPA parsing."""

import importlib
import pathlib
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Collection
from functools import lru_cache

from feller.core.errors import InputError, UsageError

DIPHTHONGS = (
    *("aɪ", "aʊ", "eɪ", "oʊ", "əʊ", "ɔɪ", "ɪə", "eə", "ʊə", "ɛɪ", "œy", "ʌu", "ɔʏ", "ɔø"),
    *("aj", "aw", "ej", "ow", "əw", "ɔj"),
)
AFFRICATES = ("tʃ", "dʒ", "ts", "dz", "tɕ", "dʑ", "tʂ", "dʐ", "tθ", "dð", "pf", "cç")
MULTI_LETTER_PHONES = (*DIPHTHONGS, *AFFRICATES)
"""Phones of two letters, where a language says nothing else."""
TIES = "͜͡"
"""Marks that bind the letters before and behind them into one phone."""
IGNORED = re.compile(r"\([^)]*\)|[ˈˌˑ'’ʼ‿|‖.\-_\s\u200b-\u200d]")
"""Names of languages in brackets, stress, pauses, and borders of syllables."""
TONES = "˥˦˧˨˩"


def phones_in(ipa: str, inventory: Collection[str] = MULTI_LETTER_PHONES) -> tuple[str, ...]:
    """Take a transcription apart: the longest phone that is known, else a letter, each with the marks behind it.

    Marks are combining ones, raised letters, length and tones. Letters that a tie binds are one phone, without the tie,
    unless it is unknown and its parts are known. Stress is left out.

    Args:
        ipa: Of one word or several.
        inventory: Phones of more than a letter, with or without marks; or all phones of some data, which then decide.
    """
    plain = unicodedata.normalize("NFD", IGNORED.sub("", ipa))
    wanted = {unicodedata.normalize("NFD", phone): None for phone in inventory}
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


NAMES = ("espeak-ng", "espeak")
"""Programs that answer alike, the better one first."""
LOADER = "espeakng_loader"
"""A package that brings its library."""
TIMEOUT_SECONDS = 10
"""Seconds that a word may take."""
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}")
SPOKEN_SIGNS = "&%+=€$£°"
"""Signs that are said."""
TIE = "͡"
"""Put between the letters of one phone."""


def phones_of(
    text: str, language: str, inventory: Collection[str] = MULTI_LETTER_PHONES
) -> tuple[tuple[str, ...], ...]:
    """Return the phones of each word of a text, in the International Phonetic Alphabet, without stress.

    Words are said one by one, so what changes at their borders is not heard.

    Args:
        text: In a language that puts blanks between words.
        language: As eSpeak names it: en-us, de, fr-fr, es, pl, pt, ...
        inventory: Phones of more than a letter; or all phones that some data have, so that theirs come out where
            possible.

    Raises:
        InputError: If the text has no words, or one of them has no phones.
        UsageError: If eSpeak is not installed, or has no such language.
    """
    words = written_words(text)
    if not words:
        raise InputError("words", repr(text[:40]))
    if not LANGUAGE.fullmatch(language):
        raise UsageError("a language such as en-us or de", repr(language[:40]))
    command = _command(language)
    phones = tuple(phones_in(_transcribed(command, word), inventory) for word in words)
    silent = [word for word, word_phones in zip(words, phones, strict=True) if not word_phones]
    if silent:
        raise InputError(f"eSpeak says nothing for {silent[0][:40]!r} in {language}", remedy="Write it in other words")
    return phones


def written_words(text: str) -> tuple[str, ...]:
    """Return what stands between blanks and dashes, without punctuation around it; apostrophes inside stay."""
    parts = re.split(r"[\s‐‑‒–—―/]+", unicodedata.normalize("NFC", text))
    return tuple(bare for bare in map(_bare, parts) if bare)


def _bare(part: str) -> str:
    """Return a word without what stands around it and is not said."""
    spoken = [i for i, c in enumerate(part) if c in SPOKEN_SIGNS or unicodedata.category(c)[0] in "LMN"]
    return part[spoken[0] : spoken[-1] + 1] if spoken else ""


def _command(language: str) -> tuple[str, ...]:
    """Return what is run: a program, or else Python with a library that came as a package."""
    program = next((path for path in map(shutil.which, NAMES) if path), None)
    if program:
        return (program, "-q", "--ipa", f"--tie={TIE}", "-v", language, "--stdin")
    try:
        loader = importlib.import_module(LOADER)
        library, data = loader.get_library_path(), loader.get_data_path()
    except (ImportError, AttributeError, RuntimeError) as error:
        raise UsageError(
            "phones of other languages need eSpeak, which is not here: install espeak-ng, or give alignments"
        ) from error
    return (
        sys.executable,
        "-I",
        str(pathlib.Path(__file__).with_name("espeak_subprocess.py")),
        library,
        data,
        language,
    )


@lru_cache(maxsize=4096)
def _transcribed(command: tuple[str, ...], word: str) -> str:
    """Return what eSpeak writes for a word."""
    try:
        done = subprocess.run(
            list(command),
            input=word.encode(errors="replace"),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{command[0]} did not answer within {TIMEOUT_SECONDS} s; is it the right program?") from error
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run ({error.strerror})", remedy="Install espeak-ng again") from error
    if done.returncode:
        message = " ".join(done.stderr.decode(errors="replace").split())[:120] or f"status {done.returncode}"
        raise UsageError(f"eSpeak has no phones of {word[:40]!r} ({message}); `espeak-ng --voices` lists its languages")
    return done.stdout.decode(errors="replace")
