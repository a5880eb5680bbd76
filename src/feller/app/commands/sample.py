"""Command `feller sample`."""

from typing import Any

from feller.app.config import SampleConfig
from feller.data.path_checks import require_free


def help_options(words: list[str]) -> frozenset[str] | None:
    """Return the names of the options that --help shows: those that apply to the run named in `words`.

    None means that --help shows all options.
    """
    folder = next((arg for arg in words if not arg.startswith("-")), None)
    if folder is None:
        return None
    from feller.app.reporter import SILENT
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.sample import applicable_options

    code = words[words.index("--code") + 1] if "--code" in words[:-1] else None
    return applicable_options(find_run(folder, code, SILENT))


def run(config: SampleConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller sample` and return paths and numbers for the JSON output; `words` are not used.

    An existing output file raises an error before torch is imported.
    """
    if config.output.shard_size is None:
        require_free(config.output.out, overwrite=config.output.overwrite)
    from feller.app.terminal import make_reporter, show_own_warnings
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.sample import sample

    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    with show_own_warnings(reporter):
        result = sample(run, config, reporter=reporter, keeps_samples=False)
    for line in result.lines:
        reporter.log(line)
    return {"run": str(run.path), "samples": result.table_url or str(result.path), "n": result.n, **result.numbers}
