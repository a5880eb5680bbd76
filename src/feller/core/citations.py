"""Papers, as BibTeX has them."""

import functools
import pathlib
import re
from dataclasses import dataclass

_ENTRY = re.compile(r"^@(\w+)\{(\w+), (.*)\}$", re.MULTILINE)
_FIELD = re.compile(r"(\w+) = \{((?:[^{}]|\{[^{}]*\})*)\}")


@dataclass(frozen=True)
class Reference:
    """One paper."""

    kind: str
    """Such as misc or article."""
    key: str
    fields: tuple[tuple[str, str], ...]

    @property
    def eprint(self) -> str:
        """Its number at arXiv; empty without one."""
        return dict(self.fields).get("eprint", "")

    @property
    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields]
        return "\n".join([f"@{self.kind}{{{self.key},", ",\n".join(lines), "}"])


@functools.cache
def references() -> tuple[Reference, ...]:
    """Return the papers that we know in full, one a line of the file beside this one."""
    text = (pathlib.Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    return tuple(Reference(kind, key, tuple(_FIELD.findall(rest))) for kind, key, rest in _ENTRY.findall(text))


def named(author: str, year: str, title: str, eprint: str) -> Reference:
    """Return the paper that a docstring names: in full where it is known, else with what is said there."""
    first = author.split(" et al.")[0].split(",")[0].split(" and ")[0]
    key = "".join(filter(str.isalnum, first.rpartition(" ")[2])).lower() + year
    for known in references():
        if known.eprint == eprint and (eprint or known.key == key):
            return known
    written = author.replace(" et al.", " and others").replace(", ", " and ")
    fields = {"author": written, "title": title, "year": year, "eprint": eprint}
    more = (("archiveprefix", "arXiv"),) if eprint else ()
    return Reference("misc", key or f"arxiv{eprint}", (*((k, v) for k, v in fields.items() if v), *more))
