"""Where tests of the application work, and how fits are quick."""

from typing import Any

import pytest

from feller.data.speech.forced_alignment import ForcedAligner, ForcedAlignment
from feller.data.speech.lexicon import words_of

ALIGN, ALIGNED = ForcedAligner.align, dict[Any, ForcedAlignment]()


@pytest.fixture(autouse=True)
def aligned_once(monkeypatch):
    """Align a recording with its text once, however many tests read it."""

    def align(aligner, sound, text):
        spoken = [aligner.lexicon.pronunciations(word, spelled=aligner.spelled) for word in words_of(text)]
        key = sound.samples.tobytes(), sound.sample_rate, text, *spoken
        if key not in ALIGNED:
            ALIGNED[key] = ALIGN(aligner, sound, text)
        return ALIGNED[key]

    monkeypatch.setattr(ForcedAligner, "align", align)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return an empty folder to work in, in which keys and what is spent are kept, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def unreported(monkeypatch):
    """Fit without a report, which is tested elsewhere and takes longest."""
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})


@pytest.fixture(autouse=True)
def briefly_rehearsed(monkeypatch):
    """Let private fits of tables learn from noisy counts for a few steps only."""
    monkeypatch.setattr("feller.app.workflows.private.pretrain_on_marginals.STEPS", 8)
