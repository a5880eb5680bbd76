"""Grapheme-to-phoneme conversion with eSpeak NG, for many languages, and parsing of IPA."""

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
"""Default set of IPA phones that consist of several letters."""
TIES = "͜͡"
"""Tie characters of IPA, which join the letters before and after into one phone."""
IGNORED = re.compile(r"\([^)]*\)|[ˈˌˑ'’ʼ‿|‖.\-_\s\u200b-\u200d]")
"""Pattern of ignored parts of a transcription: language names in brackets, stress, pauses and syllable boundaries."""
TONES = "˥˦˧˨˩"


def phones_in(ipa: str, inventory: Collection[str] = MULTI_LETTER_PHONES) -> tuple[str, ...]:
    """Split an IPA transcription into phones by longest match; each phone includes its diacritics.

    Diacritics are combining and modifier letters, length marks and tones. Letters joined by a tie form one phone,
    written without the tie, unless the inventory contains only the single letters. Stress is dropped.

    Args:
        ipa: IPA transcription of one or more words.
        inventory: Known multi-letter phones, or the full phone set of a dataset.
    """
    letters = unicodedata.normalize("NFD", IGNORED.sub("", ipa))
    phone_set = {unicodedata.normalize("NFD", phone): None for phone in inventory}
    longest = max(map(len, phone_set), default=0)
    phones: list[str] = []
    start = 0
    while start < len(letters):
        sizes = range(min(longest, len(letters) - start), 1, -1)
        size = next((n for n in sizes if letters[start : start + n] in phone_set and not _tied(letters, start + n)), 1)
        end = _marked(letters, start + size)
        pieces = re.split(f"[{TIES}]", letters[start:end])
        joined = "".join(pieces)
        is_split = joined not in phone_set and all(piece in phone_set for piece in pieces)
        phones += [unicodedata.normalize("NFC", piece) for piece in (pieces if is_split else [joined])]
        start = end
    return tuple(phones)


def _tied(letters: str, position: int) -> bool:
    """Return True if the diacritics that start at `position` of an IPA text contain a tie, which joins two letters."""
    while position < len(letters) and _is_mark(letters[position]):
        if letters[position] in TIES:
            return True
        position += 1
    return False


def _marked(letters: str, position: int) -> int:
    """Return the position after the diacritics that start at `position` of an IPA text.

    After a tie, which joins two letters, the second letter and its diacritics are included.
    """
    while position < len(letters) and _is_mark(letters[position]):
        position += 2 if letters[position] in TIES and position + 1 < len(letters) else 1
    return position


def _is_mark(letter: str) -> bool:
    """Return True for a diacritic: combining, modifier letter, or tone."""
    return unicodedata.combining(letter) > 0 or unicodedata.category(letter) in ("Mn", "Lm", "Sk") or letter in TONES


NAMES = ("espeak-ng", "espeak")
"""Names of the eSpeak program, in order of preference."""
LOADER = "espeakng_loader"
"""Name of the Python package that bundles the eSpeak NG library."""
TIMEOUT_SECONDS = 10
"""Maximum time in seconds for the transcription of a word."""
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}")
SPOKEN_SIGNS = "&%+=€$£°"
"""Symbols in a text that eSpeak reads aloud."""
TIE = "͡"
"""Tie character that eSpeak writes between the letters of one phone."""


def phones_of(
    text: str, language: str, inventory: Collection[str] = MULTI_LETTER_PHONES
) -> tuple[tuple[str, ...], ...]:
    """Return the IPA phones of each word of a text, without stress; each word is transcribed on its own.

    Args:
        text: Text in a language that separates words by spaces.
        language: eSpeak language code, such as en-us, de, fr-fr, es, pl, pt.
        inventory: Known multi-letter phones, or the full phone set of a dataset. Letters that form a phone of this set
            become one phone, rather than one phone per letter.

    Raises:
        InputError: If the text has no words, or a word has no phones.
        UsageError: If eSpeak is not installed, or does not support the language.
    """
    words = written_words(text)
    if not words:
        raise InputError("at least one word", repr(text[:40]))
    if not LANGUAGE.fullmatch(language):
        raise UsageError("a language code such as en-us or de", repr(language[:40]))
    command = _command(language)
    phones = tuple(phones_in(_transcribed(command, word), inventory) for word in words)
    silent = [word for word, word_phones in zip(words, phones, strict=True) if not word_phones]
    if silent:
        raise InputError(
            f"phones for {silent[0][:40]!r} in {language}", "none from eSpeak", "Spell the word differently"
        )
    return phones


def written_words(text: str) -> tuple[str, ...]:
    """Split a text into words at spaces and dashes, and strip punctuation; apostrophes inside words are kept."""
    tokens = re.split(r"[\s‐‑‒–—―/]+", unicodedata.normalize("NFC", text))
    return tuple(word for word in map(_bare, tokens) if word)


def _bare(token: str) -> str:
    """Strip punctuation around a word."""
    indices = [i for i, c in enumerate(token) if c in SPOKEN_SIGNS or unicodedata.category(c)[0] in "LMN"]
    return token[indices[0] : indices[-1] + 1] if indices else ""


def _command(language: str) -> tuple[str, ...]:
    """Return the command line of eSpeak: the installed program, otherwise Python with the packaged library."""
    program = next((path for path in map(shutil.which, NAMES) if path), None)
    if program:
        return (program, "-q", "--ipa", f"--tie={TIE}", "-v", language, "--stdin")
    try:
        loader = importlib.import_module(LOADER)
        library, data = loader.get_library_path(), loader.get_data_path()
    except (ImportError, AttributeError, RuntimeError) as error:
        raise UsageError(
            "eSpeak NG, for phones of other languages", "not installed", "Install espeak-ng, or give alignments"
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
    """Return the IPA transcription of a word by eSpeak."""
    try:
        process = subprocess.run(
            list(command),
            input=word.encode(errors="replace"),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"output of {command[0]} within {TIMEOUT_SECONDS} s", "none", "Check that this program is eSpeak NG"
        ) from error
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run ({error.strerror})", remedy="Install espeak-ng again") from error
    if process.returncode:
        message = " ".join(process.stderr.decode(errors="replace").split())[:120] or f"status {process.returncode}"
        raise UsageError(
            f"phones of {word[:40]!r} from eSpeak",
            f"an error ({message})",
            "List the languages of eSpeak with `espeak-ng --voices`",
        )
    return process.stdout.decode(errors="replace")
