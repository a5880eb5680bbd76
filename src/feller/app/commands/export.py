"""Command `feller export`."""

from typing import Any

from feller.app.config import ExportConfig


def run(config: ExportConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller export` and return the paths for the JSON output; `words` are not used.

    An existing output file raises an error before torch is imported.
    """
    export_format = config.form  # fail on a missing --to before loading torch
    from feller.app.terminal import make_reporter
    from feller.app.workflows.export import check_export, export, metadata_path
    from feller.app.workflows.run_config import find_run

    check_export(config)
    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    path, record = export(run, config, reporter=reporter)
    reporter.log(f"{export_format}: {path}")
    if path.suffix:
        reporter.log(f"inputs, outputs and sampling: {metadata_path(path)}")
    elif export_format != "peft":
        command = "import" if export_format == "pretrained" else "sample"
        reporter.log(f"open with: feller {command} {path}")
    return {
        "run": str(run.path),
        "file": str(path),
        **{key: record[key] for key in ("inputs", "outputs") if key in record},
    }
