"""What an owner's schema, which is public, betrays of the rows.

Which words few rows have depends on the rows, so that it is said to the owner alone, on the terminal and on the page,
and never written into what may be given away.
"""

import shlex
from collections.abc import Iterator

from feller.app.workflows.run_config import Asked
from feller.data.modality import Dataset
from feller.data.tables.mixed import as_table
from feller.data.tables.modality import Table
from feller.data.tables.public import made_public, seldom


def beware(asked: Asked, dataset: Dataset) -> tuple[str, ...]:
    """Warn the owner of a draft, and of words that one row or two have, before anything is spent.

    Args:
        asked: With the name of the schema's file, and whether that is marked as a draft.
        dataset: The table, as it was read by that.
    """
    return tuple(_warnings(asked, dataset))


def for_owner(asked: Asked, dataset: Dataset) -> tuple[str, ...]:
    """Return what the page of a private fit says of its schema: what that makes public, and the warnings again."""
    table = as_table(dataset)
    if asked.private is None or asked.schema is None or not isinstance(table.modality, Table):
        return ()
    return (made_public(table.modality.schema), *_warnings(asked, table))


def _warnings(asked: Asked, dataset: Dataset) -> Iterator[str]:
    table = as_table(dataset)
    if not isinstance(table.modality, Table):
        return
    if asked.draft:
        yield (
            f"{shlex.quote(str(asked.schema))} is still a draft, guessed from the rows: all that it says is public,"
            ' whatever epsilon is. Keep what is known without the rows, and take out its line "draft": true'
        )
    few = seldom(table.modality.schema, table.values)
    if few:
        yield (
            f"the schema lists words that one row or two have, which points at these people: {'; '.join(few)}. Take"
            ' them out, and give the column an "other"'
        )
