"""feller export."""

from typing import Any

from feller.app.config import ExportConfig


def run(config: ExportConfig, words: list[str]) -> dict[str, Any]:
    """Export; what is there already is told before the run is read."""
    form = config.form  # what is missing is told before what takes long is loaded
    from feller.app.terminal import speaker
    from feller.app.workflows.export import check, export, said_of
    from feller.app.workflows.run_config import find_run

    check(config)
    tell = speaker()
    run = find_run(config.folder, config.opening.code, tell)
    place, record = export(run, config, tell=tell)
    tell.say(f"{form}: {place}")
    if place.suffix:
        tell.say(f"what goes in, what comes out, how to sample: {said_of(place)}")
    else:
        tell.say(f"draw samples with: feller sample {place}")
    return {
        "run": str(run.path),
        "file": str(place),
        **{k: record[k] for k in ("inputs", "outputs") if k in record},
    }
