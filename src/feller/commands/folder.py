"""Which run a command is about."""

import pathlib

from feller.code import fingerprint, load_file
from feller.journeys.asked import asked_of
from feller.journeys.tell import Tell
from feller.run import Run, open_run


def find(folder: str | None, code: str | None, tell: Tell) -> Run:
    """Return the run, and load the code that the caller names; say which run it is if none was named."""
    if code is not None:
        load_file(pathlib.Path(code))
    run = open_run(folder)
    if code is not None and asked_of(run).code not in ("", fingerprint(pathlib.Path(code))):
        tell.say(f"{code} is not what it was when this run was fitted; the model may mean something else by now")
    if folder is None:
        tell.say(f"the newest run: {run.path}")
    return run
