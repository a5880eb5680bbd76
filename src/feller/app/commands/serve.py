"""feller serve."""

import os
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

from feller.app.commands.flag_types import CodePath, OptionalText, RewardTexts, RunArguments
from feller.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Show RUN, or several, as a page in the browser; the newest by default. Nothing leaves this machine."""

    folders: RunArguments = ()
    """Run folders. Nothing else on this machine can be read by visitors of the page."""
    host: str = "127.0.0.1"
    """Address; others than those of this machine alone need --token."""
    port: int = 7860
    """0 takes any that is free."""
    token: OptionalText = None
    """Who opens the page must know it, by /?token=TEXT, or typed in; 16 characters or more."""
    reward: RewardTexts = ()
    """What visitors may wish for, as of `feller steer`, such as file.py:FUNCTION, whose code then runs; each is one
    choice. They can name none themselves."""
    memory: OptionalText = None
    """Of documents: what visitors may have models look up, as of `feller sample`; they can name none themselves."""
    code: CodePath = None
    """File of your own that defines what a run's model is made of."""
    json: bool = False
    """Print a JSON object with the address, last on standard output, once the page is stopped."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import make_reporter
        from feller.app.webui.server import Access, serve
        from feller.core.run_folder import open_run

        reporter, access = make_reporter(), Access(self.host, self.port, self.token)
        opened_runs = []
        if not self.folders:
            open_run(None)  # what is not there is told before a page is promised; those that are named were looked at
        self._check_files()

        def runs() -> list[Any]:
            from feller.app.workflows.run_config import find_run  # takes long to load

            opened_runs.extend(find_run(folder, self.code, reporter) for folder in self.folders or (None,))
            return opened_runs

        address = serve(runs, access=access, rewards=self.reward, memory=self.memory, reporter=reporter)
        return {"runs": [str(run.path) for run in opened_runs], "url": address.url}

    def status(self, result: dict[str, Any]) -> int:
        """End at once: under what is still worked on, in threads, an interpreter that takes its leave crashes."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def _check_files(self) -> None:
        """Refuse rewards and a memory whose files are not there."""
        memory = [pathlib.Path(self.memory)] if self.memory else []
        for place in (*self._code(), *memory):
            if not place.exists():
                raise InputError("a file or folder", "none", file=place)

    def _code(self) -> list[pathlib.Path]:
        """Return the files that rewards name; what reads their words takes long to load."""
        if not self.reward:
            return []
        from feller.control.rewards.named_rewards import reward_file

        return [file for words in self.reward if (file := reward_file(words)) is not None]
