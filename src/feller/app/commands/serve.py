"""Command `feller serve`."""

import os
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

from feller.app.commands.flag_types import CodePath, OptionalText, RewardTexts, RunArguments
from feller.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a web page for one or several runs (default: the newest); no data leave this machine."""

    folders: RunArguments = ()
    """Run folders to show; visitors of the page cannot read any other file of this machine."""
    host: str = "127.0.0.1"
    """Network address to listen on; any address other than localhost requires --token."""
    port: int = 7860
    """Port to listen on; 0 selects a free one."""
    token: OptionalText = None
    """Access token (16+ characters), passed as `/?token=...` or entered on the page."""
    reward: RewardTexts = ()
    """Rewards that visitors can select, as for `feller steer`, such as file.py:FUNCTION (its code is executed).
    Visitors cannot add rewards."""
    memory: OptionalText = None
    """Documents for retrieval-augmented generation, as for `feller sample`. Visitors cannot choose other documents."""
    code: CodePath = None
    """Python file defining custom components used by the model."""
    json: bool = False
    """Print a JSON object with the address as the last line of standard output, after the server has stopped."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.terminal import make_reporter
        from feller.app.webui.server import Access, serve
        from feller.core.run_folder import open_run

        reporter, access = make_reporter(), Access(self.host, self.port, self.token)
        opened_runs = []
        if not self.folders:
            open_run(None)  # fail early without a run; named runs are already checked
        self._check_files()

        def runs() -> list[Any]:
            from feller.app.workflows.run_config import find_run  # takes long to load

            opened_runs.extend(find_run(folder, self.code, reporter) for folder in self.folders or (None,))
            return opened_runs

        address = serve(runs, access=access, rewards=self.reward, memory=self.memory, reporter=reporter)
        return {"runs": [str(run.path) for run in opened_runs], "url": address.url}

    def status(self, result: dict[str, Any]) -> int:
        """End the process at once with exit status 0, whatever the `result` of the command is.

        A regular shutdown can crash while worker threads are running.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def _check_files(self) -> None:
        """Raise an error if a reward file or the file of --memory does not exist."""
        memory = [pathlib.Path(self.memory)] if self.memory else []
        for path in (*self._code(), *memory):
            if not path.exists():
                raise InputError("a file or folder", "none", file=path)

    def _code(self) -> list[pathlib.Path]:
        """Return the paths of the Python files in --reward; imports locally, because the import is slow."""
        if not self.reward:
            return []
        from feller.control.rewards.named_rewards import reward_file

        return [file for text in self.reward if (file := reward_file(text)) is not None]
