"""The docs list the files of a run folder and those that `--overwrite` removes."""

import itertools
import pathlib
import re

from feller.core.run_folder import IGNORED_FILES, MANAGED_FILES

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "reference" / "run-folder.md").read_text()


def section(title: str) -> str:
    """Return the text of a section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_overwritten_files_are_documented() -> None:
    """The first table names all files; the section on the flag names those that stay."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), section("Files").splitlines())
    table = [*itertools.takewhile(lambda line: line.startswith("|"), lines)]
    named = {name for row in table for name in names(row.split("|")[1]) if not name.startswith(("report-", "."))}
    stays = names(section("`--overwrite`")) - {"--overwrite", "ledger.json"}
    assert stays
    assert named - stays <= set(MANAGED_FILES)
    assert stays - {"lock"} == named - set(MANAGED_FILES)
    assert {name.rstrip("/") for name in stays} >= set(IGNORED_FILES)
