"""Tests of statistics, data and decoders of the CM3Leon reproduction."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.documents.tiles import tiles_of
from feller.evaluation.document_metrics import document_nlls, tokens_nll
from feller.sampling.autoregressive.document_decoding import SamplingSpec
from feller.sampling.autoregressive.token_guidance import ClassifierFreeGuidance
from feller_papers.claims import UNTESTABLE
from feller_papers.cm3leon import (
    CLAIM_TESTS,
    UNTESTABLE_CLAIMS,
    guidance,
    infilling,
    models,
    tuning,
)
from feller_papers.cm3leon.asking import code_nlls, image_request, replace_picture, sample_images, text_request
from feller_papers.cm3leon.contrast import repeat_each, rerank
from feller_papers.cm3leon.differences import (
    Difference,
    difference,
    format_differences,
    has_interior_minimum,
    proportion_difference,
    rank_correlation,
)
from feller_papers.cm3leon.models import ModelKey, base_model, tuned_model
from feller_papers.cm3leon.reading import read_scenes, stack_pictures
from feller_papers.cm3leon.setting import QUICK
from feller_papers.cm3leon.world import TRAIN_VIEWS, ExperimentData, experiment_data
from feller_papers.scenes.creatures import views
from feller_papers.scenes.drawing import Lettering, draw_scenes, render, render_letters
from feller_papers.scenes.instructions import instructions, view_document
from tiny import TINY


@pytest.fixture(scope="module")
def data() -> ExperimentData:
    return experiment_data(TINY, 0)


def test_catalogue_of_claims() -> None:
    assert {claim.verdict for claim in UNTESTABLE_CLAIMS} == {UNTESTABLE}
    assert len({test.__module__ for test in CLAIM_TESTS}) == 6
    assert len(QUICK.seeds) == 1
    assert {*tuning.TASK_METRICS} == {document.task for document in instructions(8, Rng(0), 16)}


def test_a_difference_and_its_error() -> None:
    """For 1, 2, 3, 4: mean 2.5, standard deviation sqrt(5 / 3), standard error half of that."""
    result = difference(torch.zeros(4).double(), torch.tensor([1.0, 2, 3, 4]).double())
    assert result.mean == pytest.approx(2.5)
    assert result.error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert result.significant
    assert not difference(torch.tensor([1.0, 2, 3, 4]).double(), torch.zeros(4).double()).significant
    assert not Difference(2.9, 1.0).significant
    assert Difference(3.1, 1.0).significant
    assert format_differences([result, Difference(0.25, 0.1)]) == "2.5 ± 0.6, 0.25 ± 0.1"
    with pytest.raises(InputError, match="found 1 and 1"):
        difference(torch.zeros(1).double(), torch.ones(1).double())


def test_difference_is_paired() -> None:
    """The variance over documents cancels in the paired difference."""
    base_cost = 100 * Rng(0).stream("cost").normal((50,), torch.float64)
    assert difference(
        base_cost, base_cost + 0.1 + 0.01 * Rng(1).stream("more").normal((50,), torch.float64)
    ).significant


def test_proportion_difference() -> None:
    """Proportions (50 + 1) / 102 = 0.5 and (0 + 1) / 102; variances add."""
    result = proportion_difference(0.5, 0.0, 100)
    small = 1 / 102
    assert result.mean == 0.5
    assert result.error == pytest.approx(math.sqrt((0.25 + small * (1 - small)) / 100))
    assert result.significant
    assert not proportion_difference(0.05, 0.0, 100).significant
    assert proportion_difference(1.0, 1.0, 10).error > 0


def test_rank_correlation_and_interior_minimum() -> None:
    assert rank_correlation([1.0, 2.0, 3.0, 10.0]) == pytest.approx(1)
    assert rank_correlation([4.0, 3.0, 1.0]) == pytest.approx(-1)
    assert rank_correlation([1.0, 2.0, 3.0, 5.0, 4.0]) == pytest.approx(0.9)
    assert rank_correlation([2.0, 3.0, 1.0, 4.0, 5.0]) >= guidance.MIN_CORRELATION
    assert rank_correlation([3.0, 2.0, 1.0, 4.0, 5.0]) < guidance.MIN_CORRELATION
    assert rank_correlation([2.0, 2.0, 2.0]) == 0
    assert rank_correlation([1.0, 1.0, 2.0]) == pytest.approx(math.sqrt(3) / 2)
    with pytest.raises(InputError, match="found 1"):
        rank_correlation([1.0])
    assert has_interior_minimum([3.0, 1.0, 2.0])
    assert not has_interior_minimum([1.0, 2.0, 3.0])
    assert not has_interior_minimum([3.0, 2.0, 1.0])
    assert has_interior_minimum([2.2, 2.0, 2.2])
    assert not has_interior_minimum([2.19, 2.0, 3.0])


@pytest.mark.slow
def test_tiles_are_exact() -> None:
    values = stack_pictures([picture for document in instructions(200, Rng(0), 16) for picture in document.pictures()])
    codes = tiles_of(values, 2, 1024)
    written = codes.encode(values)
    assert torch.equal(codes.decode(written), values)
    assert written.shape[1] == codes.grid[0] * codes.grid[1] == 64
    assert int(written.max()) < codes.codebook_size < 1024
    lower = codes.encode(values.roll(2, 2)).unflatten(1, codes.grid)
    assert torch.equal(lower, written.unflatten(1, codes.grid).roll(1, 1))
    assert torch.equal(codes.encode(values[:3]), written[:3])
    with pytest.raises(InputError, match="16 x 16"):
        codes.encode(values[:, :, :8])


def test_tail_creatures_are_only_in_the_memory(data: ExperimentData) -> None:
    train = {row[row != data.modality.symbols.pad].numpy().tobytes() for row in data.modality.encode(data.pairs.values)}
    memory = {row[row != data.modality.symbols.pad].numpy().tobytes() for row in data.retrieval_index.datastore.rows}
    assert len(data.pairs) == TRAIN_VIEWS * TINY.num_head_creatures + TINY.num_scenes
    assert len(data.retrieval_index.datastore) == len(data.pairs) + TRAIN_VIEWS * TINY.num_tail_creatures
    assert train < memory
    text = " ".join(data.modality.texts(data.pairs.values))
    assert not any(f" {creature.name} " in text for creature in data.tail_creatures)
    for held_out in (data.head_views, data.tail_views):
        rows = {row[row != data.modality.symbols.pad].numpy().tobytes() for row in held_out.rows}
        assert not rows & memory
        codes = (
            held_out.rows[data.modality.symbols.is_code(held_out.rows)].view(-1, data.modality.symbols.picture)
            - data.modality.symbols.text
        )
        assert torch.equal(data.modality.tokenizer.decode(codes), held_out.pictures)
    assert read_scenes(data.test_scenes.pictures)[0].ground == data.scenes[0].ground


@pytest.mark.parametrize("key", [ModelKey(0, 1), ModelKey(0, 1, documents=0), ModelKey(0, 2, tuned=True)])
def test_no_training_on_tail_creatures(monkeypatch, data: ExperimentData, key: ModelKey) -> None:
    """Neither in training documents nor in retrieved documents, whose tokens are in the loss."""
    base_model(TINY, 0, key.dial)  # with which a tuned one begins
    calls = []
    monkeypatch.setattr(models, "fit_decoder", lambda network, *rest: calls.append(rest) or network)
    models._train.__wrapped__(TINY, key)
    ((objective, dataset, *_),) = calls
    if key.documents and not key.tuned:
        assert torch.equal(objective.datastore.datastore.rows, data.modality.encode(data.pairs.values))
    text = " ".join(data.modality.texts(dataset.values))
    assert not any(f" {creature.name} " in text for creature in data.tail_creatures)


def test_document_nlls_sum_to_the_total(data: ExperimentData) -> None:
    """The sum over documents equals `tokens_nll`."""
    network, symbols = base_model(TINY, 0, 1), data.modality.symbols
    none = [data.test_scenes.rows.new_empty(0)] * len(data.test_scenes.rows)
    total, count = document_nlls(network, data.test_scenes.rows, none, symbols, symbols.is_code)
    whole = tokens_nll(network, data.test_scenes.rows, none, symbols, symbols.is_code)
    assert total.sum().item() == pytest.approx(whole.nats)
    assert int(count.sum()) == whole.symbols == 64 * len(data.test_scenes.rows)
    assert torch.allclose(code_nlls(network, data, data.test_scenes.rows, Rng(0)), total / 64)


def test_requests_hide_the_answer(data: ExperimentData) -> None:
    symbols = data.modality.symbols
    document = view_document(views(data.tail_creatures[0], 1, Rng(0))[0], 16)
    image_tokens = image_request(document).tokens(data.modality)
    assert image_tokens[0] == symbols.eos
    assert image_tokens[-1] == symbols.break_token
    assert not symbols.is_code(image_tokens).any()
    request, truth = text_request(document)
    tokens = request.tokens(data.modality)
    assert truth == document.text()
    assert not symbols.is_text(tokens).any()
    assert tokens[1] == symbols.mask
    assert tokens[-1] == symbols.infill
    question = next(document for document in data.test_instructions if document.task == "question")
    request, truth = text_request(question)
    assert truth not in ("", question.text())
    assert symbols.is_text(request.tokens(data.modality)).any()


def test_replaced_picture() -> None:
    document, other = (instructions(1, Rng(seed), 16)[0] for seed in (0, 1))
    moved = replace_picture(document, other)
    assert np.array_equal(moved.pictures()[-1], other.pictures()[-1])
    assert moved.text() == document.text()


def test_hole_nlls_of_a_uniform_model(data: ExperimentData) -> None:
    """A uniform network has NLL log(count) per token, with and without right context."""
    flat, count = copy.deepcopy(base_model(TINY, 0, 1)), data.modality.symbols.num_outputs
    flat.token_embed.weight.data.zero_()
    for hide in infilling.HOLES.values():
        infilled, left_to_right, counts = infilling.hole_nlls(flat, data, data.test_scenes.documents, hide)
        assert torch.allclose(infilled, counts.double() * math.log(count))
        assert torch.allclose(left_to_right, counts.double() * math.log(count))
    assert counts.min() >= 1
    whole = infilling.hole_nlls(flat, data, data.test_scenes.documents, infilling._whole_caption)[2]
    assert whole.tolist() == [int((row < data.modality.symbols.text).sum()) for row in data.test_scenes.rows]
    assert infilling.hole_nlls(flat, data, data.test_scenes.documents, infilling.middle_of_picture)[
        2
    ].unique().tolist() == [21]


def test_attribute_accuracy() -> None:
    scenes = draw_scenes(20, Rng(0))
    assert guidance.attribute_accuracy(scenes, scenes) == 1
    assert guidance.attribute_accuracy(scenes, scenes[1:] + scenes[:1]) < 0.5
    values = stack_pictures([render(scene, 16) for scene in scenes])
    assert tuning.scene_scores(values, values) == [1.0] * 20
    letters = stack_pictures([render_letters(Lettering(word, "red", "blue"), 16) for word in ("A", "BC", "X")])
    assert tuning.letter_scores(letters, letters.flip(0)) == [0.0, 1.0, 0.0]


def test_baselines() -> None:
    """An edit changes one of four attributes; the most frequent answer is right as often as it occurs."""
    documents = {
        task: [document for document in instructions(160, Rng(0), 16) if document.task == task]
        for task in tuning.TASK_METRICS
    }
    name, scores = tuning.TASK_METRICS["edit"].baseline(documents["edit"])
    assert name == "the first picture as it is"
    assert 0.3 < sum(scores) / len(scores) < 0.8
    answers = [text_request(document)[1] for document in documents["question"]]
    _, scores = tuning.TASK_METRICS["question"].baseline(documents["question"])
    assert sum(scores) == max(map(answers.count, answers))
    assert tuning.TASK_METRICS["letters"].baseline is None


def test_rerank(data: ExperimentData) -> None:
    """One candidate per document is chosen."""
    documents = data.test_scenes.documents[:2]
    images = data.test_scenes.pictures[:4]
    chosen = rerank(data, documents, images, 2)
    assert chosen.shape[0] == 2
    assert any(torch.equal(chosen[0], image) for image in images[:2])
    assert any(torch.equal(chosen[1], image) for image in images[2:])
    assert repeat_each([1, 2], 2) == [1, 1, 2, 2]


def test_sampling_with_retrieval(data: ExperimentData) -> None:
    """Two specs in turn, with retrieval; all tiles are in the codebook."""
    images = sample_images(
        base_model(TINY, 0, 1),
        data,
        data.tail_views.documents[:2],
        Rng(3),
        specs=(SamplingSpec(), SamplingSpec(ClassifierFreeGuidance(2.0))),
        num_retrieved=2,
    )
    assert images.shape == (2, 3, 16, 16)
    codes = data.modality.tokenizer.encode(images)
    assert torch.equal(data.modality.tokenizer.decode(codes), images)
    assert codes.unique().numel() > 10


def test_tuning_starts_from_the_base_model() -> None:
    """After two steps at a low learning rate, weights are close but not equal; the base model is unchanged."""
    base, tuned = base_model(TINY, 0, 2), tuned_model(TINY, 0)
    before = base.token_embed.weight
    assert not torch.equal(before, tuned.token_embed.weight)
    assert (before - tuned.token_embed.weight).abs().max() < 3e-3
    assert base is base_model(TINY, 0, 2)


@pytest.mark.slow
def test_parallel_training_equals_serial() -> None:
    """Four trainings in two processes; tuning follows its base model."""
    parallel = replace(TINY, num_workers=2)
    for serial_model, parallel_model in (
        (base_model(TINY, 0, 1), base_model(parallel, 0, 1)),
        (tuned_model(TINY, 0), tuned_model(parallel, 0)),
    ):
        assert all(
            torch.equal(value, parallel_model.state_dict()[name]) for name, value in serial_model.state_dict().items()
        )
