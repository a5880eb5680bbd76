"""feller export."""

from typing import Any

from feller.app.config import ExportConfig
from feller.core.errors import UsageError
from feller.data.path_checks import check_free


def run(config: ExportConfig, words: list[str]) -> dict[str, Any]:
    """Export; what is missing is told before what takes long is loaded, as is what is there already."""
    if config.to is None:
        raise UsageError("expected --to torch-export, onnx or huggingface")
    check_free(config.out, overwrite=config.overwrite)
    if config.out is not None and config.to != "huggingface":
        check_free(f"{config.out}.json", overwrite=config.overwrite)
    from feller.app.terminal import speaker
    from feller.app.workflows.export import export, said_of
    from feller.app.workflows.run_config import find_run

    tell = speaker()
    run = find_run(config.folder, config.opening.code, tell)
    place, record = export(run, config, tell=tell)
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
