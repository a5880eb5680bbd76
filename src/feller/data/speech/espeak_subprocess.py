"""Script that calls the eSpeak NG library; it runs in its own process, so that a crash of the library is contained.

Usage: `python espeak_subprocess.py LIBRARY DATA LANGUAGE`, with a word on stdin. The script must not import feller.
"""

import ctypes
import sys

RETRIEVAL, KEEP = 1, 0x8000
"""Options of `espeak_Initialize`: return audio instead of playing it, and do not exit on errors."""
UTF8 = 1
IPA = 0x02 | 0x80 | 0x361 << 8
"""Phoneme mode of eSpeak: IPA, with ties in multi-letter phones."""


def main() -> int:
    """Transcribe the word on stdin, write its phones to stdout, and return the exit code."""
    library, data, language = sys.argv[1:]
    espeak = ctypes.CDLL(library)
    espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
    espeak.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    is_initialized = espeak.espeak_Initialize(RETRIEVAL, 0, data.encode(), KEEP) > 0
    if not is_initialized or espeak.espeak_SetVoiceByName(language.encode()):
        print("the voice does not exist" if is_initialized else f"cannot initialise {library}", file=sys.stderr)
        return 1
    text = ctypes.c_char_p(sys.stdin.buffer.read())
    while text.value is not None:  # one clause per call
        phones = espeak.espeak_TextToPhonemes(ctypes.byref(text), UTF8, IPA)
        sys.stdout.buffer.write((phones or b"") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
