"""feller steer."""

from typing import Any

from feller.app.config import SteerConfig


def run(config: SteerConfig, words: list[str]) -> dict[str, Any]:
    """Steer."""
    from feller.app.terminal import heard, show, speaker
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.steer import check, steer
    from feller.app.workflows.steering.reward_search import Steered

    check(config)
    tell = speaker()
    run = find_run(config.folder, config.opening.code, tell)
    with heard(tell):
        found, page = steer(run, config, tell=tell)
    show({**found.numbers, "report": page}, tell)
    tell.say(f"{found.numbers['n']:,} samples: {found.place}")
    sketch = {"sketch": found.sketch} if isinstance(found, Steered) and found.sketch else {}
    return {"run": str(run.path), "samples": str(found.place), **found.numbers, **sketch, "report": page}
