"""The data that a model and all that it began with were fitted to."""

import os

from feller.app.workflows.fine_tuned_run import tuned_of
from feller.app.workflows.run_config import Asked, Seen, asked_of, same_print
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, open_run
from feller.core.user_code import fingerprint as file_hash
from feller.data.examples.registry import EXAMPLE
from feller.data.modality import Dataset


def seen_by(run: Run) -> tuple[Seen, ...]:
    """Return what a run was fitted to, and what those were that it started from, as far back as anybody knows.

    A run that does not say it is asked for the folder that it started from; where that is gone, nothing is known.
    """
    asked = asked_of(run)
    tuned = tuned_of(run)
    wishes = () if tuned is None else (Seen(f"the wishes that {run.path} was tuned to"),)
    own = (Seen(asked.data, asked.fingerprint, keyed=asked.private is not None), *wishes)
    if asked.start_from is None:
        return own
    return (*own, *(asked.ancestors or _followed(asked)))


def _followed(asked: Asked) -> tuple[Seen, ...]:
    unknown = (Seen(f"what {asked.start_from} was fitted to"),)
    try:
        start = open_run(asked.start_from)
        return seen_by(start) if file_hash(start.average) == asked.start_hash else unknown
    except (InputError, OSError, RecursionError):
        return unknown


def check_public(start: Run, data: str, dataset: Dataset) -> None:
    """Refuse to begin with a model that saw the rows which are to be protected, or may have.

    Args:
        start: Holds the model.
        data: What a person named.
        dataset: The same as read.

    Raises:
        UsageError: Then.
    """
    for seen in seen_by(start):
        if not seen.fingerprint:
            raise UsageError(
                f"{start.path} has learned from {seen.data}, of which nobody knows any more whether it held the rows"
                " that are to be protected; start from a model whose beginnings are there, or leave --start-from out"
            )
        if same_place(seen.data, data) or same_print(seen.fingerprint, dataset, keyed=seen.keyed):
            raise UsageError(
                f"{start.path} was fitted to {seen.data}, or began with a model that was: the rows that are to be"
                " protected, and what it knows of them would not be counted; start from a model of public data, or"
                " leave --start-from out"
            )


def same_place(one: str, other: str) -> bool:
    """Tell whether two names are of one file, folder or example."""
    if one.startswith(EXAMPLE) or other.startswith(EXAMPLE):
        return one.partition("/")[0] == other.partition("/")[0]
    return os.path.realpath(one) == os.path.realpath(other)
