"""What the numbers of a model of speech are called, and what stands beside them."""

from feller.evaluation.report.reading import Measure

REAL = "real speech, same vocoder"
SPEECH_MEASURES = {
    "word_error_rate": Measure("words that Whisper hears wrong", "word_error_rate_floor", REAL, is_share=True),
    "speaker_similarity": Measure("likeness of voices to their prompts", "speaker_similarity_floor", REAL),
    "frechet_speech": Measure("distance from real speech", "frechet_speech_floor", REAL),
    "opinion": Measure("quality as DNSMOS guesses it", "opinion_floor", REAL, unit="of 5"),
    "opinion_speech": Measure("quality of the voice alone", "opinion_speech_floor", REAL, unit="of 5"),
    "opinion_background": Measure("quality of the background", "opinion_background_floor", REAL, unit="of 5"),
    "phone_mae": Measure("error of durations of phones", unit="frames"),
    "silence_mae": Measure("error of durations of silences", unit="frames"),
    "duration_correlation": Measure("slow speakers go on slowly"),
    "phone_fdd": Measure("distance of durations from learned ones", unit="frames squared"),
    "phone_mae_drawn": Measure("error of durations that are drawn, their mean", unit="frames"),
    "duration_correlation_drawn": Measure("slow speakers go on slowly, drawn"),
    "phone_fdd_drawn": Measure("distance of drawn durations from learned ones", unit="frames squared"),
    "detected": Measure("told from recordings by the detector", is_share=True),
    "detected_resynthesised": Measure("told from recordings through the same vocoder", is_share=True),
    "synthesis": Measure("seconds for a second of log mels"),
}
SPEECH_ASIDE = (
    *("word_error_rate_low", "word_error_rate_high", "voiceless"),
    *("detected_low", "detected_high", "detected_resynthesised_low", "detected_resynthesised_high"),
)
"""What stands in the table of all numbers alone."""
SPEECH_WHY_MISSING = {
    "frechet_speech": "there are too few sounds with a voice",
    **dict.fromkeys(("speaker_similarity", "speaker_similarity_floor"), "no sound is long enough to have a voice"),
    **dict.fromkeys(("phone_mae", "phone_mae_drawn"), "no phone was hidden"),
    **dict.fromkeys(("silence_mae",), "no silence was hidden"),
    **dict.fromkeys(("duration_correlation", "duration_correlation_drawn"), "there are fewer than three utterances"),
}
