"""Lookup of the BibTeX entries of the papers cited in docstrings."""

import functools
import inspect
import pathlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

_ENTRY = re.compile(r"^@(\w+)\{(\w+), (.*)\}$", re.MULTILINE)
_FIELD = re.compile(r"(\w+) = \{((?:[^{}]|\{[^{}]*\})*)\}")


@dataclass(frozen=True)
class BibEntry:
    """BibTeX entry of a paper."""

    entry_type: str
    """BibTeX entry type, such as misc or article."""
    key: str
    fields: tuple[tuple[str, str], ...]

    @property
    def eprint(self) -> str:
        """Identifier on arXiv; empty if the paper is not on arXiv."""
        return dict(self.fields).get("eprint", "")

    @property
    def bibtex(self) -> str:
        """Entry as BibTeX source."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields]
        return "\n".join([f"@{self.entry_type}{{{self.key},", ",\n".join(lines), "}"])


@functools.cache
def load_bibliography() -> tuple[BibEntry, ...]:
    """Return the entries of `references.bib`, which holds one entry per line."""
    text = (pathlib.Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    return tuple(
        BibEntry(entry_type, key, tuple(_FIELD.findall(body))) for entry_type, key, body in _ENTRY.findall(text)
    )


def find_reference(author: str, year: str, title: str, eprint: str) -> BibEntry:
    """Return the entry of a cited paper: from `references.bib` if listed, else built from the arguments.

    Args:
        author: Authors as in the citation, such as "Mardani et al.".
        year: Year of publication.
        title: Title; empty if the citation has none.
        eprint: Identifier on arXiv; if it is empty, the paper is looked up by first author and year.
    """
    first_author = author.split(" et al.")[0].split(",")[0].split(" and ")[0]
    key = "".join(filter(str.isalnum, first_author.rpartition(" ")[2])).lower() + year
    for entry in load_bibliography():
        if entry.eprint == eprint and (eprint or entry.key == key):
            return entry
    authors = author.replace(" et al.", " and others").replace(", ", " and ")
    fields = {"author": authors, "title": title, "year": year, "eprint": eprint}
    archive = (("archiveprefix", "arXiv"),) if eprint else ()
    return BibEntry("misc", key or f"arxiv{eprint}", (*((k, v) for k, v in fields.items() if v), *archive))


_CITATION_PATTERN = re.compile(
    r"(?<!\w)"
    r"(?P<author>(?:van den |van der )?[A-Z][\w\-]+(?:(?:, | and )(?:van den |van der )?[A-Z][\w\-]+)*(?: et al\.)?)"
    r" (?P<year>(?:19|20)\d\d)\b"
)
_EPRINT, _TITLE = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})"), re.compile(r'^, "([^"]+)"')


def cited_papers(*objects: Any) -> tuple[BibEntry, ...]:
    """Return the papers cited in the docstrings of objects and of their fields, without duplicates, sorted by key.

    Args:
        objects: Frozen dataclasses, functions, classes, or collections of these.
    """
    entries: dict[str, BibEntry] = {}
    for definition in _iter_definitions(objects, set()):
        for paper in parse_citations(_docstrings(definition)):
            entries.setdefault(paper.key, paper)
    return tuple(entries[key] for key in sorted(entries))


def parse_citations(text: str) -> Iterator[BibEntry]:
    """Yield the papers that a docstring cites after `Source:` or `Sources:`, up to the end of the paragraph."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        _, *sources = re.split(r"Sources?: ", " ".join(paragraph.split()), maxsplit=1)
        if not sources:
            continue
        source = sources[0]
        matches = [*_CITATION_PATTERN.finditer(source)]
        ends = [*(match.start() for match in matches[1:]), len(source)][: len(matches)]
        for match, end in zip(matches, ends, strict=True):
            citation = source[match.end() : end]
            eprint, title = _EPRINT.search(citation), _TITLE.match(citation)
            if eprint or title:
                yield find_reference(
                    match["author"], match["year"], title[1] if title else "", eprint[1] if eprint else ""
                )
        if not matches and (bare_eprint := _EPRINT.search(source)):
            yield find_reference("", "", "", bare_eprint[1])


def _iter_definitions(value: Any, visited: set[int]) -> Iterator[Any]:
    """Yield the functions and classes in a value, its fields and its items, depth first."""
    if inspect.isclass(value) or inspect.isfunction(value):
        yield value
    elif is_dataclass(value) and not inspect.isclass(value):
        if id(value) in visited:
            return
        visited.add(id(value))
        yield type(value)
        for field in fields(value):
            yield from _iter_definitions(getattr(value, field.name, None), visited)
    elif isinstance(value, dict):
        yield from _iter_definitions(tuple(value.values()), visited)
    elif isinstance(value, tuple | list):
        for element in value:
            yield from _iter_definitions(element, visited)


def _docstrings(definition: Any) -> str:
    """Return the docstring of a function, or the joined docstrings of a class, its bases and its module."""
    if not inspect.isclass(definition):
        return definition.__doc__ or ""
    classes = [cls for cls in inspect.getmro(definition) if cls.__module__ not in ("builtins", "abc")]
    module_doc = getattr(sys.modules.get(definition.__module__), "__doc__", None)
    return "\n\n".join([*(inspect.cleandoc(cls.__doc__ or "") for cls in classes), module_doc or ""])
