"""feller sample, of the run of a bridge."""

from typing import Any

from feller.app.commands.sample_flags import SampleFlags


def push(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Push data through a bridge."""
    from feller.app.terminal import heard
    from feller.app.workflows.apply_bridge import push as pushed

    with heard(tell):
        ends, place = pushed(
            run, asked.bridge.begin, out=asked.out, backward=asked.bridge.backward, seed=asked.seed, tell=tell
        )
    tell.say(f"{len(ends):,} ends: {place}")
    return {"run": str(run.path), "samples": str(place), "n": len(ends)}
