"""feller cite."""

from dataclasses import dataclass
from typing import Any

from feller.app.commands.flag_types import CodePath, RunArgument


@dataclass(frozen=True, kw_only=True)
class Cite:
    """Print BibTeX of the papers whose methods RUN, the newest by default, uses."""

    folder: RunArgument = None
    """The run folder."""
    code: CodePath = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import make_reporter
        from feller.app.workflows.cite import references_of
        from feller.app.workflows.run_config import find_run

        run = find_run(self.folder, self.code, make_reporter())
        references = references_of(run)
        if not self.json:
            print("\n\n".join(each.bibtex for each in references))
        return {"run": str(run.path), "papers": [{"key": each.key, **dict(each.fields)} for each in references]}
