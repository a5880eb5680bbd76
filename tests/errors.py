"""Assertions about classes and fields of errors."""

import contextlib
import re
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def refuses(kind: type[Exception], **fields: object) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expect an error of one line, with fields as given."""
    with pytest.raises(kind) as caught:
        yield caught
    assert {name: getattr(caught.value, name, None) for name in fields} == fields
    assert len(str(caught.value).splitlines()) == 1


def numbers(fact: str | None) -> list[str]:
    """Return the numbers in a field of an error, in order."""
    return re.findall(r"\d+(?:\.\d+)?", fact or "")
