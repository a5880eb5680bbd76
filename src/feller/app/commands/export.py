"""feller export."""

import pathlib
from typing import Any

from feller.app.config import ExportConfig
from feller.core.errors import UsageError


def run(config: ExportConfig, words: list[str]) -> dict[str, Any]:
    """Export."""
    if config.to is None:
        raise UsageError("expected --to torch-export, onnx or huggingface")
    from feller.app.commands.resolve_run import find
    from feller.app.terminal import speaker
    from feller.app.workflows.export import HUGGING_FACE, export, said_of
    from feller.data.path_checks import check_free

    check_free(config.out, overwrite=config.overwrite)
    if config.out is not None and config.to != HUGGING_FACE:
        check_free(str(said_of(pathlib.Path(config.out))), overwrite=config.overwrite)
    tell = speaker()
    run = find(config.folder, config.opening.code, tell)
    place, record = export(run, config.to, out=config.out, guidance=config.guidance, tell=tell)
    tell.say(f"{config.to}: {place}")
    if place.suffix:
        tell.say(f"what goes in, what comes out, how to sample: {said_of(place)}")
    else:
        tell.say(f"draw samples with: feller sample {place}")
    return {
        "run": str(run.path),
        "file": str(place),
        **{k: record[k] for k in ("inputs", "outputs") if k in record},
    }
