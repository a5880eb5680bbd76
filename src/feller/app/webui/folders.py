"""Where files lie on this machine is nothing for visitors: what they read names files, and no folders."""

import html
import re
from collections.abc import Mapping

FOLDERS = re.compile(r"(?<![\w./:])(?:/[^\s/'\"]+)+/(?=[^\s/])")
"""Of an absolute place, before its last part."""
TAG = re.compile(r"(<style\b.*?</style>|<[^>]*>)", re.DOTALL)
"""What is no text of a page."""
COMMAND = re.compile(r'(<code class="command">.*?</code>)', re.DOTALL)
WORD = re.compile(r"(?<=>)(?P<begin>&#x27;|'?)(?P<word>[^<>\s]*?/[^<>\s]*?)(?P<end>&#x27;|'?)(?=<)")
"""A word of a command that has folders; it is an element of its own."""
LEADING = re.compile(r".*/(?=[^/])")


def without_folders(text: str, places: Mapping[str, str]) -> str:
    """Return a text without folders.

    Args:
        text: What visitors are about to read.
        places: Runs and files as the text may name them -> what they are called on the page.
    """
    for place, name in sorted(places.items(), key=lambda pair: -len(pair[0])):
        if "/" in place:
            whole = re.compile(rf"(?<![\w./-]){re.escape(place)}(?:(?P<inside>/)(?=[^\s/])|(?![\w-]))")
            text = whole.sub(lambda match, name=name: "" if match["inside"] else name, text)
    return FOLDERS.sub("", text)


def page_without_folders(page: str, places: Mapping[str, str]) -> str:
    """Return a report without folders, neither in its words nor in its commands, but for those of the runs.

    Args:
        page: HTML.
        places: Runs and files as it may name them -> what they are called on the page.
    """
    kept = {word for name in places.values() for word in name.split(" ")}  # each is an element of its own

    def told(match: re.Match[str]) -> str:
        word = html.unescape(match["word"])
        word = places.get(word) or (word if word in kept else LEADING.sub("", word))
        return f"{match['begin']}{html.escape(word, quote=False)}{match['end']}"

    parts = COMMAND.split(page)
    parts[1::2] = [WORD.sub(told, part) for part in parts[1::2]]
    words = TAG.split("".join(parts))
    words[::2] = [_word(word, places) for word in words[::2]]
    return "".join(words)


def _word(text: str, places: Mapping[str, str]) -> str:
    """Return what stands between two tags without folders."""
    plain = html.unescape(text)
    told = without_folders(plain, places)
    return text if told == plain else html.escape(told, quote=False)
