"""feller sample."""

from typing import Any

from feller.app.config import SampleConfig
from feller.data.path_checks import require_free


def run(config: SampleConfig, words: list[str]) -> dict[str, Any]:
    """Draw samples; what is there already is told before what takes long is loaded."""
    if config.output.shard is None:
        require_free(config.output.out, overwrite=config.output.overwrite)
    from feller.app.terminal import heard, speaker
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.sample import sample

    tell = speaker()
    run = find_run(config.folder, config.opening.code, tell)
    with heard(tell):
        drawn = sample(run, config, tell=tell)
    for line in drawn.lines:
        tell.say(line)
    return {"run": str(run.path), "samples": str(drawn.place), "n": drawn.n, **drawn.numbers}
