"""feller sample."""

from typing import Any

from feller.app.config import SampleConfig


def run(config: SampleConfig, words: list[str]) -> dict[str, Any]:
    """Draw samples."""
    from feller.app.commands.resolve_run import find
    from feller.app.terminal import heard, speaker
    from feller.app.workflows.sample import sample
    from feller.data.path_checks import check_free

    if config.shards.shard is None:  # what is there is told before what takes long is loaded
        check_free(config.out, overwrite=config.overwrite)
    tell = speaker()
    run = find(config.folder, config.opening.code, tell)
    with heard(tell):
        drawn = sample(run, config, tell=tell)
    for line in drawn.lines:
        tell.say(line)
    return {"run": str(run.path), "samples": str(drawn.place), "n": drawn.n, **drawn.numbers}
