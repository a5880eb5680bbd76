"""Who listens for a report: what was heard is kept, and how far it is is said."""

from collections.abc import Sequence

import numpy as np

from feller.app.workflows.speech import evaluate_speech
from feller.app.workflows.speech.evaluate_speech import ASRCache
from feller.data.loading.raw import Waveform
from feller.evaluation.speech.asr import SpeechRecognizer
from feller.evaluation.speech.mos import MOSRatings
from tests.app.workflows.speech.pace import Listening


def tone(level):
    return Waveform(np.full(1600, level, np.float32), 16_000)


class Level(SpeechRecognizer):
    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        return [f"{sound.samples[0]:.1f}" for sound in sounds]


def test_what_is_heard_is_kept_and_the_share_is_told(monkeypatch):
    monkeypatch.setattr(evaluate_speech, "opinion", lambda sound: MOSRatings(1.0, 2.0, 3.0))
    shares: list[float] = []
    tell = Listening()
    monkeypatch.setattr(tell, "progress", lambda share, text="": shares.append(share))
    sounds = [tone(0.1), tone(0.2)]
    ears = ASRCache(2, tell, Level())
    assert ears.transcribe(sounds) == ["0.1", "0.2"]
    assert [ears.transcripts[sound] for sound in sounds] == ["0.1", "0.2"]
    for sound in sounds:
        ears.rate(sound)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_captions_say_what_was_asked_and_what_was_heard():
    assert evaluate_speech._caption("really: a word", "A word.") == "really: a word (Whisper: A word.)"
    assert evaluate_speech._caption("to be said anew: a word", " ") == "to be said anew: a word (Whisper: no speech)"
    assert evaluate_speech._caption("to be said anew: ", None) == "to be said anew"
