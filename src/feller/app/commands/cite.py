"""feller cite."""

from dataclasses import dataclass
from typing import Any

from feller.app.commands.flag_types import CodeText, RunPlace


@dataclass(frozen=True, kw_only=True)
class Cite:
    """Print BibTeX of the papers whose methods RUN, the newest by default, uses."""

    folder: RunPlace = None
    """The run folder."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import speaker
        from feller.app.workflows.cite import papers
        from feller.app.workflows.run_config import find_run

        run = find_run(self.folder, self.code, speaker())
        found = papers(run)
        if not self.json:
            print("\n\n".join(each.bibtex for each in found))
        return {"run": str(run.path), "papers": [{"key": each.key, **dict(each.fields)} for each in found]}
