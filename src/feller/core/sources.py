"""What objects say of their sources: the docstrings of their classes, and of the modules that these are in."""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from feller.core.citations import Reference, named

_PAPER = re.compile(
    r"(?<!\w)"
    r"(?P<author>(?:van den |van der )?[A-Z][\w\-]+(?:(?:, | and )(?:van den |van der )?[A-Z][\w\-]+)*(?: et al\.)?)"
    r" (?P<year>(?:19|20)\d\d)\b"
)
_EPRINT, _TITLE = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})"), re.compile(r'^, "([^"]+)"')


def sources_of(*objects: Any) -> tuple[Reference, ...]:
    """Return the papers after which objects, and all that they are made of, were written; each once, by key.

    Args:
        objects: Frozen dataclasses, functions, classes, or collections of these.
    """
    found: dict[str, Reference] = {}
    for one in _parts(objects, set()):
        for paper in papers(_says(one)):
            found.setdefault(paper.key, paper)
    return tuple(found[key] for key in sorted(found))


def papers(text: str) -> Iterator[Reference]:
    """Yield what a docstring names behind `Source:`, up to the end of the paragraph."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        _, said, source = " ".join(paragraph.split()).partition("Source: ")
        if not said:
            continue
        starts = [*_PAPER.finditer(source)]
        ends = [*(match.start() for match in starts[1:]), len(source)][: len(starts)]
        for match, end in zip(starts, ends, strict=True):
            rest = source[match.end() : end]
            eprint, title = _EPRINT.search(rest), _TITLE.match(rest)
            if eprint or title:
                yield named(match["author"], match["year"], title[1] if title else "", eprint[1] if eprint else "")
        if not starts and (bare := _EPRINT.search(source)):
            yield named("", "", "", bare[1])


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the functions and classes of objects, depth first."""
    if inspect.isclass(value) or inspect.isfunction(value):
        yield value
    elif is_dataclass(value) and not inspect.isclass(value):
        if id(value) in seen:
            return
        seen.add(id(value))
        yield type(value)
        for field in fields(value):
            yield from _parts(getattr(value, field.name, None), seen)
    elif isinstance(value, dict):
        yield from _parts(tuple(value.values()), seen)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _parts(each, seen)


def _says(one: Any) -> str:
    """Return the docstrings of a class, those that it comes from, and its module; or that of a function."""
    if not inspect.isclass(one):
        return one.__doc__ or ""
    kinds = [kind for kind in inspect.getmro(one) if kind.__module__ not in ("builtins", "abc")]
    around = getattr(sys.modules.get(one.__module__), "__doc__", None)
    return "\n\n".join([*(inspect.cleandoc(kind.__doc__ or "") for kind in kinds), around or ""])
