"""Which run a command is about."""

import pathlib

from feller.app.reporter import Tell
from feller.app.workflows.run_config import asked_of
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, open_run
from feller.core.user_code import fingerprint, load_file
from feller.models.spec import load_description


def find(folder: str | None, code: str | None, tell: Tell) -> Run:
    """Return the run, and load the code that the caller names; say which run it is if none was named."""
    if code is not None:
        load_file(pathlib.Path(code))
    run = open_run(folder)
    _check_code(run, code)
    if code is not None and asked_of(run).code not in ("", fingerprint(pathlib.Path(code))):
        tell.say(f"{code} is not what it was when this run was fitted; the model may mean something else by now")
    if folder is None:
        tell.say(f"the newest run: {run.path}")
    return run


def _check_code(run: Run, code: str | None) -> None:
    """Refuse a run that is made of the user's own code, where none or another was named.

    Raises:
        UsageError: Then; says which file it was.
    """
    asked = asked_of(run)
    if not asked.code:
        return
    run.read_record(run.model)  # damage is told as it is
    try:
        load_description(run)
    except InputError as error:
        file = asked.code_file
        if code is not None:
            raise UsageError(
                f"{code} does not define what the model of {run.path} is made of, which was fitted with {file}; name"
                " that file with --code"
            ) from error
        raise UsageError(f"the model of {run.path} is made of code of yours: name it with --code {file}") from error
