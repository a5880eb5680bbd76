"""How good speech is, beside real speech."""

from feller.evaluate.speech.heard import Listener, Whisper, word_error_rate, word_errors
from feller.evaluate.speech.opinion import Opinion, opinion
from feller.evaluate.speech.quality import EXPLAIN, Judges, SpeechQuality, Utterances, speech_quality
from feller.evaluate.speech.spread import frechet_speech
from feller.evaluate.speech.voices import Voices, similarity

__all__ = [
    "EXPLAIN",
    "Judges",
    "Listener",
    "Opinion",
    "SpeechQuality",
    "Utterances",
    "Voices",
    "Whisper",
    "frechet_speech",
    "opinion",
    "similarity",
    "speech_quality",
    "word_error_rate",
    "word_errors",
]
