"""The pages name what a run folder holds, and what of it `--overwrite` removes, as the code does it."""

import pathlib
import re

from feller.core.run_folder import IGNORED_FILES, MANAGED_FILES

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "reference" / "run-folder.md").read_text()


def test_what_is_removed_is_what_the_page_says() -> None:
    table = PAGE.split("| file | content |")[1].split("\n\n")[0]
    first = "\n".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|"))
    named = {name for name in re.findall(r"`([^`]+)`", first) if not name.startswith(("report-", "."))}
    sentence = PAGE.split("## `--overwrite`")[1].split("It keeps")[1].split("\n\n")[0]
    stays = set(re.findall(r"`([^`]+)`", sentence)) - {"ledger.json"}
    assert named - stays <= set(MANAGED_FILES)
    assert stays - {"lock"} == named - set(MANAGED_FILES)
    assert {name.rstrip("/") for name in stays} >= set(IGNORED_FILES)
