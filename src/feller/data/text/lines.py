"""Texts as lines of files, and back."""

import csv
import io
import json
import re
from collections.abc import Sequence

from feller.data.labels import LABEL_NAMES, TEXT_NAME

ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\ufeff": "\\ufeff"}
"""What would end a line, or what readers drop, and how a line holds it."""
_PLAIN = {escape: sign for sign, escape in ESCAPES.items()}


def to_lines(texts: Sequence[str]) -> str:
    r"""Write one text a line; a new line inside becomes \n, a backslash \\."""
    return "".join(re.sub("[\\\\\n\r\ufeff]", lambda sign: ESCAPES[sign[0]], text) + "\n" for text in texts)


def lines_of(content: str) -> list[str]:
    r"""Return the texts of lines, also empty ones; \n in a line is a new line, \\ a backslash."""
    lines = content.removesuffix("\n").split("\n")
    return [re.sub(r"\\(\\|n|r|ufeff)", lambda escape: _PLAIN[escape[0]], line) for line in lines]


def to_json_lines(texts: Sequence[str], labels: Sequence[str] | None, tokens: Sequence[list[int]] | None) -> str:
    """Write one JSON object a line, with `text`, and `label` and `tokens` where there are any."""
    lines = []
    for i, text in enumerate(texts):
        entry: dict[str, str | list[int]] = {TEXT_NAME: text}
        if labels is not None:
            entry[LABEL_NAMES[0]] = labels[i]
        if tokens is not None:
            entry["tokens"] = tokens[i]
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    return "".join(lines)


def to_table(texts: Sequence[str], labels: Sequence[str] | None) -> str:
    """Write a table with the column `text`, and `label` where there are any, commas between cells."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    names, columns = ([TEXT_NAME], [texts]) if labels is None else ([TEXT_NAME, LABEL_NAMES[0]], [texts, labels])
    writer.writerows([names, *zip(*columns, strict=True)])
    return file.getvalue()
