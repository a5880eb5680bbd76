"""feller export."""

from typing import Any

from feller.app.config import ExportConfig


def run(config: ExportConfig, words: list[str]) -> dict[str, Any]:
    """Export; what is there already is told before the run is read."""
    form = config.form  # what is missing is told before what takes long is loaded
    from feller.app.terminal import make_reporter
    from feller.app.workflows.export import check_export, export, metadata_path
    from feller.app.workflows.run_config import find_run

    check_export(config)
    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    place, record = export(run, config, reporter=reporter)
    reporter.log(f"{form}: {place}")
    if place.suffix:
        reporter.log(f"what goes in, what comes out, how to sample: {metadata_path(place)}")
    else:
        reporter.log(f"draw samples with: feller sample {place}")
    return {
        "run": str(run.path),
        "file": str(place),
        **{k: record[k] for k in ("inputs", "outputs") if k in record},
    }
