"""Registration of the text modality."""

from feller.app.modalities.registration import Display, Registration, lazy_function
from feller.data.modality import Dataset
from feller.data.text.figure import MAX_TEXTS
from feller.data.text.modality import Text
from feller.evaluation.attacks.example_distances import PassageDistance

MAX_REPORT_TEXTS = 100
"""Number of texts for the metrics of a report."""


def max_report_texts(data: Dataset, seconds: float | None) -> int:
    """Return the number of texts to evaluate for a report, which depends neither on the data nor on the time limit."""
    return MAX_REPORT_TEXTS


REGISTRATIONS = {
    Text: Registration(
        recipe="text",
        recipe_of_family={"autoregressive": "text-autoregressive"},
        measure=lazy_function("evaluation.text_metrics", "text_quality"),
        display=Display("words", 2, 16, max_animated=1),
        max_samples=max_report_texts,
        page_size=MAX_TEXTS,
        distance=lambda kind: PassageDistance(),
    )
}
