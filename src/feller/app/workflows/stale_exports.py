"""Exports in a run that are of older weights than it has by now."""

import pathlib
import shlex
from collections.abc import Iterator

from feller.app.workflows.hugging_face import HUGGING_FACE
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.serialization import read_json
from feller.core.user_code import fingerprint


def outdated(run: Run) -> Iterator[str]:
    """Yield a line for each export in a run's folder that was made of other weights than the run has.

    Files that were exported to other places are not known here; each says of which weights it is, under `weights`.
    """
    exports, copied = sorted(run.path.glob("export.*.json")), run.path / HUGGING_FACE / "model.safetensors"
    if not run.average.is_file() or not (exports or copied.is_file()):
        return
    now = fingerprint(run.average)
    for said in exports:
        place = said.with_suffix("")
        record = _record(said)
        before, form = record.get("weights"), record.get("form")
        if place.is_file() and isinstance(before, str) and isinstance(form, str) and before != now:
            yield _told(run, place, form, record.get("guidance"))
    if copied.is_file() and fingerprint(copied) != now:
        yield _told(run, copied.parent, HUGGING_FACE, None)


def _record(said: pathlib.Path) -> dict[str, object]:
    """Read what an export says of itself; nothing where it is damaged."""
    try:
        found = read_json(said)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(run: Run, place: pathlib.Path, form: str, guidance: object) -> str:
    """Say that an export is of older weights, and how it is made anew, with the same guidance."""
    if isinstance(guidance, str):
        guided = ["--guidance", "input"]
    else:
        guided = ["--guidance", f"{guidance:g}"] if isinstance(guidance, int | float) and guidance != 1 else []
    again = shlex.join(["feller", "export", str(run.path), "--to", form, *guided])
    return f"{place} is of older weights than the run has now; export it again with: {again}"
