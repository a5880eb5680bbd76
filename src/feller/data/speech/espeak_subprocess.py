"""Asks the library of eSpeak NG for phones, as a program of its own, so that what it does cannot end a user's program.

It is run as `python espeak_subprocess.py LIBRARY DATA LANGUAGE`, reads a word from its input, and imports none of ours.
"""

import ctypes
import sys

RETRIEVAL, KEEP = 1, 0x8000
"""Sound is given back, not played; and an error does not end the program."""
UTF8 = 1
IPA = 0x02 | 0x80 | 0x361 << 8
"""Phones in the alphabet, those of several letters tied."""


def main() -> int:
    """Write the phones of what is read."""
    library, data, language = sys.argv[1:]
    espeak = ctypes.CDLL(library)
    espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
    espeak.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    started = espeak.espeak_Initialize(RETRIEVAL, 0, data.encode(), KEEP) > 0
    if not started or espeak.espeak_SetVoiceByName(language.encode()):
        print("the voice does not exist" if started else f"{library} does not start", file=sys.stderr)
        return 1
    rest = ctypes.c_char_p(sys.stdin.buffer.read())
    while rest.value is not None:  # one clause after the other
        said = espeak.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA)
        sys.stdout.buffer.write((said or b"") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
