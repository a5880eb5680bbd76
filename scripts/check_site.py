"""Checks the links of the documentation without a network.

python scripts/check_site.py [HTML]: every relative link of README, CHANGELOG, SECURITY, CONTRIBUTING and docs/ leads
to a file that is there, and to a heading in it; links to other sites are well formed, and `--list` prints them. HTML
is the folder that `make docs` has built: in it no script, style, font or picture comes from elsewhere, and every link
between pages leads somewhere.
"""

import html.parser
import pathlib
import re
import sys
import unicodedata
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).parent.parent
TOP = ("README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")
FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,}).*?^(?P=mark)[`~]*\s*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`+[^`\n]+`+")
LINK = re.compile(r"\]\(<?(?P<target>[^()\s<>]*(?:\([^()\s]*\)[^()\s<>]*)*)>?(?:\s+\"[^\"]*\")?\)")
DOWNLOAD = re.compile(r"\{(?:download|doc)\}`[^<`]*<(?P<target>[^>]+)>`", re.DOTALL)
BARE = re.compile(r"<(?P<target>https?://[^>\s]+)>")
HEADING = re.compile(r"^#{1,6}\s+(?P<words>.+?)\s*#*\s*$", re.MULTILINE)
LABEL = re.compile(r"^\((?P<name>[\w-]+)\)=\s*$", re.MULTILINE)
LOADS = {
    "link": "href",
    "script": "src",
    "img": "src",
    "source": "src",
    "iframe": "src",
    "audio": "src",
    "video": "src",
}
NAMES = {"canonical", "alternate", "author", "license", "next", "prev"}
"""Kinds of `<link>` that name a page and load nothing."""


@dataclass(frozen=True)
class Link:
    """Where a page points."""

    page: pathlib.Path
    line: int
    target: str

    @property
    def outside(self) -> bool:
        """Whether it leads to another site."""
        return bool(urllib.parse.urlsplit(self.target).scheme)

    def __str__(self) -> str:
        """Say where it stands."""
        return f"{self.page}:{self.line}: {self.target}"


def pages(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """Return all pages."""
    written = [root / name for name in TOP] + sorted((root / "docs").rglob("*.md"))
    return [page for page in written if page.is_file() and "_build" not in page.parts]


def blanked(text: str, pattern: re.Pattern[str]) -> str:
    """Replace what matches by spaces, and keep the lines."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def links(page: pathlib.Path, root: pathlib.Path = ROOT) -> Iterator[Link]:
    """Yield the links of a page, without those in code."""
    text = blanked(page.read_text(), FENCE)
    for pattern in (LINK, BARE, DOWNLOAD):
        for match in pattern.finditer(text if pattern is DOWNLOAD else blanked(text, INLINE)):
            if match["target"]:
                yield Link(page.relative_to(root), text.count("\n", 0, match.start()) + 1, match["target"])


def anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors of a page: its headings as code hosts and MyST name them, and its labels."""
    text, found, seen = blanked(page.read_text(), FENCE), set(), {}
    for match in HEADING.finditer(text):
        slug = slug_of(match["words"])
        found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return found | {match["name"] for match in LABEL.finditer(text)}


def slug_of(words: str) -> str:
    """Return the anchor of a heading: lower case, no punctuation, dashes for spaces."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words).replace("`", "").strip().lower()
    kept = [c for c in plain if c in " -_" or unicodedata.category(c)[0] in "LN"]
    return "".join(kept).replace(" ", "-")


def broken(root: pathlib.Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with the links of all pages."""
    for page in pages(root):
        for link in links(page, root):
            wrong = malformed(link.target) if link.outside else missing(page, link.target, root)
            if wrong:
                yield f"{link}: {wrong}"


def malformed(target: str) -> str:
    """Return what is wrong with a link to another site, or nothing."""
    try:
        parts = urllib.parse.urlsplit(target)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        return str(error)
    if parts.scheme == "mailto":
        return "" if "@" in parts.path else "no address"
    if parts.scheme not in ("http", "https"):
        return "neither http nor https"
    return "" if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.hostname or "") else "no host"


def missing(page: pathlib.Path, target: str, root: pathlib.Path) -> str:
    """Return what is wrong with a link to a file of the repository, or nothing."""
    path, _, anchor = target.partition("#")
    place = (page.parent / urllib.parse.unquote(path)).resolve() if path else page
    if not place.is_relative_to(root.resolve()):
        return "leads out of the repository"
    if not place.exists():
        return "is not there"
    if anchor and place.suffix == ".md" and anchor not in anchors(place):
        return f"no heading of {place.name} has the anchor {anchor!r}"
    return ""


@dataclass
class Page(html.parser.HTMLParser):
    """What a built page loads, where it leads, and what can be led to in it."""

    loads: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Set the parser up."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says."""
        facts = {name: value or "" for name, value in attrs}
        kinds = set(facts.get("rel", "").split())
        if tag in LOADS and facts.get(LOADS[tag]) and not (tag == "link" and kinds & NAMES):
            self.loads.append(facts[LOADS[tag]])
        if tag == "a" and facts.get("href"):
            self.leads.append(facts["href"])
        self.names |= {facts[name] for name in ("id", "name") if facts.get(name)}


def parsed(file: pathlib.Path) -> Page:
    """Read a built page."""
    page = Page()
    page.feed(file.read_text())
    return page


def broken_site(folder: pathlib.Path) -> Iterator[str]:
    """Yield what is wrong with the pages that were built."""
    built = {file.resolve(): parsed(file) for file in sorted(folder.rglob("*.html"))}
    if not built:
        yield f"{folder}: no page was built there"
    for file, page in built.items():
        where = file.relative_to(folder.resolve())
        for load in page.loads:
            if load.startswith("//") or urllib.parse.urlsplit(load).scheme not in ("", "data"):
                yield f"{where}: loads {load} from elsewhere"
            elif not load.startswith("data:") and not (file.parent / plain(load)).exists():
                yield f"{where}: {load} is not there"
        for lead in page.leads:
            if lead.startswith("//") or urllib.parse.urlsplit(lead).scheme:
                continue
            target = (file.parent / plain(lead)).resolve() if plain(lead) else file
            anchor = urllib.parse.unquote(lead.partition("#")[2])
            if not target.exists():
                yield f"{where}: {lead} is not there"
            elif anchor and target in built and anchor not in built[target].names:
                yield f"{where}: {lead}: no such place"
    for style in sorted(folder.rglob("*.css")):
        for load in re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style.read_text()):
            if re.match(r"(https?:)?//", load[0] or load[1]):
                yield f"{style.relative_to(folder)}: loads {load[0] or load[1]} from elsewhere"


def plain(link: str) -> str:
    """Return the file that a link names."""
    return urllib.parse.unquote(link.partition("#")[0].partition("?")[0])


def main(words: list[str]) -> int:
    """Say what is broken."""
    if "--list" in words:
        print("\n".join(sorted({link.target for page in pages() for link in links(page) if link.outside})))
        return 0
    problems = [*broken(), *(problem for word in words for problem in broken_site(pathlib.Path(word)))]
    print("\n".join(problems) or "all links lead somewhere")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
