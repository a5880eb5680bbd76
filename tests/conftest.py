"""Documents, a run of documents and a run of speech, shared by tests of several folders."""

import gc
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

import tests.shapes  # noqa: F401 (before feller, whose functions it has checked)
from feller.app.cli import main
from feller.evaluation.evaluation_budget import MIN_EXAMPLES, EvaluationBudget
from feller.sampling.sampler_config import SamplerConfig

LEARN = ("--size", "tiny", "--steps", "8", "--train.warmup", "1", "--train.lr", "1e-2", "--vectors.steps", "2")
"""Little, but enough to take notice of what stands before."""
OWN = ("--tokenizer", "learned", "--tokenizer.steps", "2")
"""A tokeniser that learns, though tiles would do."""


gc.disable()


def pytest_collection_finish() -> None:
    """Spare the collector of garbage, from now on at work, the modules and tests, which stay: they are most objects."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


def fewest(budget: EvaluationBudget, max_examples: int, *pace: object, **options: object) -> int:
    """Return the smallest number of examples of a report, independent of the clock."""
    return max_examples if budget.seconds is None else min(max_examples, max(MIN_EXAMPLES, max_examples // 16))


@pytest.fixture(scope="session", autouse=True)
def brief() -> Iterator[None]:
    """Reports after tiny trainings use few examples, a fixed number whatever the load of the machine, and few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.evaluation.flow_metrics.NUM_CURVES", 16)
        patch.setattr("feller.evaluation.flow_metrics.EXACT_SAMPLER", SamplerConfig("rk4", 8))
        patch.setattr("feller.evaluation.flow_metrics.ESTIMATED_SAMPLER", SamplerConfig("midpoint", 4))
        patch.setattr(EvaluationBudget, "fraction_of", classmethod(lambda cls, *seconds: cls(0.1)))
        patch.setattr(EvaluationBudget, "num_affordable", fewest)
        yield


@pytest.fixture(scope="session")
def alignments() -> dict[Any, Any]:
    """Return the alignments of recordings with their texts that a test has computed."""
    return {}


@pytest.fixture
def aligned_once(monkeypatch: pytest.MonkeyPatch, alignments: dict[Any, Any]) -> None:
    """Align a recording with its text once, however many tests read it."""
    from feller.data.speech.forced_alignment import ForcedAligner
    from feller.data.speech.lexicon import words_of

    compute = ForcedAligner.align

    def align(aligner: Any, sound: Any, text: str) -> Any:
        spoken = [aligner.lexicon.pronunciations(word, spelled=aligner.spelled) for word in words_of(text)]
        key = sound.samples.tobytes(), sound.sample_rate, text, *spoken
        if key not in alignments:
            alignments[key] = compute(aligner, sound, text)
        return alignments[key]

    monkeypatch.setattr(ForcedAligner, "align", align)


@pytest.fixture
def briefly_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let private fits of tables learn from noisy counts for a few steps only."""
    monkeypatch.setattr("feller.app.workflows.private.pretrain_on_marginals.STEPS", 8)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder of captioned images, instructions and a datastore."""
    out = tmp_path_factory.mktemp("demonstration") / "scenes"
    assert main(["data", "scenes", "-n", "40", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def documents(scenes: pathlib.Path) -> pathlib.Path:
    """Return a run trained on captioned images."""
    run = scenes.parent / "documents"
    assert main(["fit", str(scenes / "pairs"), *LEARN, *OWN, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="session")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a run briefly trained on three audio clips in the folder `clips`."""
    from tests.data.speech.written import pairs

    home = tmp_path_factory.mktemp("speaking")
    pairs(home / "clips")
    run, little = home / "run", ("--train.warmup", "1", "--durations.steps", "5", "--duration-sampler.steps", "5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})  # reports are tested elsewhere
        words = ("--recipe", "speech", "--size", "tiny", "--steps", "3", *little, "--out", str(run))
        assert main(["fit", str(home / "clips"), *words]) == 0
    return run
