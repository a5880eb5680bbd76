"""feller sample, of a run of speech."""

from typing import Any

from feller.commands.sample_flags import SampleFlags


def speak(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Say something."""
    from feller.commands.terminal import heard
    from feller.journeys.speech.sampled import utter
    from feller.journeys.speech.say import GUIDANCE
    from feller.journeys.speech.wanted import Asked

    with heard(tell):
        uttered, place = utter(
            run,
            Asked(
                text=asked.text,
                voice=asked.voice,
                denoise=asked.denoise,
                span=asked.span,
                edit=asked.edit,
                style=asked.style,
                content=asked.content,
                durations=asked.durations,
                spelled=asked.spell,
                language=asked.language,
            ),
            1 if asked.n is None else asked.n,
            out=asked.out,
            guidance=GUIDANCE if asked.guidance is None else asked.guidance,
            calls=asked.calls,
            solver=asked.solver,
            speed=1.0 if asked.speed is None else asked.speed,
            vocoder=asked.vocoder,
            seed=asked.seed,
            tell=tell,
        )
    n, seconds = len(uttered.sounds), uttered.seconds
    what = "sound" if n == 1 else "sounds"
    tell.say(
        f"{n:,} {what} of {seconds:.1f} s in all, log mels made in {uttered.network_seconds:.1f} s, seed {asked.seed}:"
        f" {place}"
    )
    return {
        "run": str(run.path),
        "samples": str(place),
        "n": n,
        "seed": asked.seed,
        "seconds": round(seconds, 3),
        "network_seconds": round(uttered.network_seconds, 3),
    }
