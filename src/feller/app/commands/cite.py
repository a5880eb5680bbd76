"""Command `feller cite`."""

from dataclasses import dataclass
from typing import Any

from feller.app.commands.flag_types import CodePath, RunArgument


@dataclass(frozen=True, kw_only=True)
class Cite:
    """Print BibTeX entries of the papers whose methods RUN (default: the newest) uses."""

    folder: RunArgument = None
    """Run folder."""
    code: CodePath = None
    """Python file defining custom components used by the model."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.terminal import make_reporter
        from feller.app.workflows.cite import references_of
        from feller.app.workflows.run_config import find_run

        run = find_run(self.folder, self.code, make_reporter())
        references = references_of(run)
        if not self.json:
            print("\n\n".join(reference.bibtex for reference in references))
        return {
            "run": str(run.path),
            "papers": [{"key": reference.key, **dict(reference.fields)} for reference in references],
        }
