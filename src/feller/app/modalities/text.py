"""Texts."""

from feller.app.modalities.registration import Display, Registration, later
from feller.data.modality import Dataset
from feller.data.text.figure import MAX_TEXTS
from feller.data.text.modality import Text
from feller.evaluation.attacks.example_distances import PassageDistance

MOST_TEXTS = 100
"""Drawn for the numbers of a report."""


def most_texts(data: Dataset, seconds: float | None) -> int:
    """Return how many texts are drawn for a report."""
    return MOST_TEXTS


REGISTRATIONS = {
    Text: Registration(
        recipe="text",
        measure=later("evaluation.text", "text_quality"),
        display=Display("words", 2, 16, watched=1),
        most=most_texts,
        page=MAX_TEXTS,
        apart=lambda kind: PassageDistance(),
    ),
}
