"""feller sample, of a run of speech."""

from typing import Any

from feller.app.commands.sample_flags import SampleFlags


def speak(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Say something."""
    from feller.app.terminal import heard
    from feller.app.workflows.speech.sample_speech import utter
    from feller.app.workflows.speech.speech_request import Asked
    from feller.app.workflows.speech.synthesize import GUIDANCE

    with heard(tell):
        uttered, place = utter(
            run,
            Asked(
                text=asked.speech.text,
                voice=asked.speech.voice,
                denoise=asked.speech.denoise,
                span=asked.speech.span,
                edit=asked.edit,
                style=asked.speech.style,
                content=asked.speech.content,
                durations=asked.speech.durations,
                spelled=asked.speech.spell,
                language=asked.speech.language,
            ),
            1 if asked.n is None else asked.n,
            out=asked.out,
            guidance=GUIDANCE if asked.guidance is None else asked.guidance,
            calls=asked.calls,
            solver=asked.solver,
            speed=1.0 if asked.speech.speed is None else asked.speech.speed,
            vocoder=asked.speech.vocoder,
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
