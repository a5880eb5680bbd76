"""Phones of texts in many languages, by eSpeak NG where a user has it: under the GPL, so it never comes with us."""

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
from feller.data.speech.ipa import KNOWN, phones_in

NAMES = ("espeak-ng", "espeak")
"""Programs that answer alike, the better one first."""
LOADER = "espeakng_loader"
"""A package that brings its library."""
PATIENCE = 10
"""Seconds that a word may take."""
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}")
SAID = "&%+=€$£°"
"""Signs that are said."""
TIE = "͡"
"""Put between the letters of one phone."""


def phones_of(text: str, language: str, known: Collection[str] = KNOWN) -> tuple[tuple[str, ...], ...]:
    """Return the phones of each word of a text, in the International Phonetic Alphabet, without stress.

    Words are said one by one, so what changes at their borders is not heard.

    Args:
        text: In a language that puts blanks between words.
        language: As eSpeak names it: en-us, de, fr-fr, es, pl, pt, ...
        known: Phones of more than a letter; or all phones that some data have, so that theirs come out where possible.

    Raises:
        InputError: If the text has no words, or one of them has no phones.
        UsageError: If eSpeak is not installed, or has no such language.
    """
    words = written_words(text)
    if not words:
        raise InputError(f"expected words, got {text[:40]!r}")
    if not LANGUAGE.fullmatch(language):
        raise UsageError(f"expected a language such as en-us or de, got {language[:40]!r}")
    command = _command(language)
    phones = tuple(phones_in(_transcribed(command, word), known) for word in words)
    silent = [word for word, said in zip(words, phones, strict=True) if not said]
    if silent:
        raise InputError(f"eSpeak says nothing for {silent[0][:40]!r} in {language}; write it in other words")
    return phones


def written_words(text: str) -> tuple[str, ...]:
    """Return what stands between blanks and dashes, without punctuation around it; apostrophes inside stay."""
    parts = re.split(r"[\s‐‑‒–—―/]+", unicodedata.normalize("NFC", text))
    return tuple(bare for bare in map(_bare, parts) if bare)


def _bare(part: str) -> str:
    """Return a word without what stands around it and is not said."""
    said = [i for i, c in enumerate(part) if c in SAID or unicodedata.category(c)[0] in "LMN"]
    return part[said[0] : said[-1] + 1] if said else ""


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
    return (sys.executable, "-I", str(pathlib.Path(__file__).with_name("espeak_library.py")), library, data, language)


@lru_cache(maxsize=4096)
def _transcribed(command: tuple[str, ...], word: str) -> str:
    """Return what eSpeak writes for a word."""
    try:
        done = subprocess.run(
            list(command), input=word.encode(errors="replace"), capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{command[0]} did not answer within {PATIENCE} s; is it the right program?") from error
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run ({error.strerror}); install espeak-ng again") from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:120] or f"status {done.returncode}"
        raise UsageError(f"eSpeak has no phones of {word[:40]!r} ({said}); `espeak-ng --voices` lists its languages")
    return done.stdout.decode(errors="replace")
