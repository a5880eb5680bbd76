"""Commands run in this process: their JSON output, or the fields of their error."""

import contextlib
import io
import json
from typing import Any

from feller.app import cli
from feller.core.errors import UsageError
from tests.errors import refuses


def run(*words: object) -> dict[str, Any]:
    """Run a command that succeeds, and return its JSON output."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(out.getvalue().splitlines()[-1])


def refuse(*words: object, kind: type[Exception] = UsageError, **fields: object) -> Any:
    """Check that a command prints no result and raises an error with these fields, and return the error."""
    with contextlib.redirect_stdout(io.StringIO()) as out, refuses(kind, **fields) as caught:
        cli.run([*map(str, words)])
    assert not out.getvalue()
    return caught.value
