"""What the claims of CM3Leon rest on: statistics, the world they are tested in, and the decoders."""

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


def test_each_subject_has_tests() -> None:
    assert {claim.verdict for claim in UNTESTABLE_CLAIMS} == {UNTESTABLE}
    assert len({test.__module__ for test in CLAIM_TESTS}) == 6
    assert len(QUICK.seeds) == 1
    assert {*tuning.TASK_METRICS} == {document.task for document in instructions(8, Rng(0), 16)}


def test_a_difference_and_its_error() -> None:
    """Of 1, 2, 3, 4 the mean is 2.5, the deviation sqrt(5 / 3), its error half of that."""
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


def test_what_is_common_to_pairs_does_not_count() -> None:
    """Documents differ by far more than two ways of asking: a paired difference sees these all the same."""
    base_cost = 100 * Rng(0).stream("cost").normal((50,), torch.float64)
    assert difference(
        base_cost, base_cost + 0.1 + 0.01 * Rng(1).stream("more").normal((50,), torch.float64)
    ).significant


def test_shares_apart() -> None:
    """(50 + 1) / 102 = 0.5 and (0 + 1) / 102; variances of shares of 100 add."""
    result = proportion_difference(0.5, 0.0, 100)
    small = 1 / 102
    assert result.mean == 0.5
    assert result.error == pytest.approx(math.sqrt((0.25 + small * (1 - small)) / 100))
    assert result.significant
    assert not proportion_difference(0.05, 0.0, 100).significant
    assert proportion_difference(1.0, 1.0, 10).error > 0


def test_ranks() -> None:
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
def test_tiles_are_exact_where_they_are_known() -> None:
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


def test_tails_are_in_the_memory_and_not_in_the_pairs(data: ExperimentData) -> None:
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


@pytest.mark.parametrize("which", [ModelKey(0, 1), ModelKey(0, 1, documents=0), ModelKey(0, 2, tuned=True)])
def test_no_creature_of_the_tail_is_learned(monkeypatch, data: ExperimentData, which: ModelKey) -> None:
    """Neither from pairs and lessons, nor from documents in front, whose tokens count as well."""
    base_model(TINY, 0, which.dial)  # with which a tuned one begins
    calls = []
    monkeypatch.setattr(models, "_fit", lambda network, *rest: calls.append(rest) or network)
    models._train.__wrapped__(TINY, which)
    ((objective, dataset, *_),) = calls
    if which.documents and not which.tuned:
        assert torch.equal(objective.datastore.datastore.rows, data.modality.encode(data.pairs.values))
    text = " ".join(data.modality.texts(dataset.values))
    assert not any(f" {creature.name} " in text for creature in data.tail_creatures)


def test_nats_are_those_of_the_sum(data: ExperimentData) -> None:
    """Each document's own cost adds up to that of all."""
    network, symbols = base_model(TINY, 0, 1), data.modality.symbols
    none = [data.test_scenes.rows.new_empty(0)] * len(data.test_scenes.rows)
    total, count = document_nlls(network, data.test_scenes.rows, none, symbols, symbols.is_code)
    whole = tokens_nll(network, data.test_scenes.rows, none, symbols, symbols.is_code)
    assert total.sum().item() == pytest.approx(whole.nats)
    assert int(count.sum()) == whole.symbols == 64 * len(data.test_scenes.rows)
    assert torch.allclose(code_nlls(network, data, data.test_scenes.rows, Rng(0)), total / 64)


def test_prompts_hide_what_is_asked(data: ExperimentData) -> None:
    symbols = data.modality.symbols
    document = view_document(views(data.tail_creatures[0], 1, Rng(0))[0], 16)
    tokens_of_image_request = image_request(document).tokens(data.modality)
    assert tokens_of_image_request[0] == symbols.eos
    assert tokens_of_image_request[-1] == symbols.break_token
    assert not symbols.is_code(tokens_of_image_request).any()
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


def test_another_picture_stands_in_its_place() -> None:
    document, other = (instructions(1, Rng(seed), 16)[0] for seed in (0, 1))
    moved = replace_picture(document, other)
    assert np.array_equal(moved.pictures()[-1], other.pictures()[-1])
    assert moved.text() == document.text()


def test_holes_hold_the_same_symbols_both_ways(data: ExperimentData) -> None:
    """A network that answers alike everywhere spends log(count) on each symbol of a hole, in either order."""
    flat, count = copy.deepcopy(base_model(TINY, 0, 1)), data.modality.symbols.num_outputs
    flat.token_embed.weight.data.zero_()
    for hide in infilling.HOLES.values():
        infilled, left_to_right, counts = infilling.hole_nlls(flat, data, data.test_scenes.documents, hide)
        assert torch.allclose(infilled, counts.double() * math.log(count))
        assert torch.allclose(left_to_right, counts.double() * math.log(count))
    assert counts.min() >= 1
    whole = infilling.hole_nlls(flat, data, data.test_scenes.documents, infilling._whole_caption)[2]
    assert whole.tolist() == [int((row < data.modality.symbols.text).sum()) for row in data.test_scenes.rows]
    assert infilling.hole_nlls(flat, data, data.test_scenes.documents, infilling._of_picture)[2].unique().tolist() == [
        21
    ]


def test_attributes_of_the_scene_itself() -> None:
    scenes = draw_scenes(20, Rng(0))
    assert guidance.attribute_accuracy(scenes, scenes) == 1
    assert guidance.attribute_accuracy(scenes, scenes[1:] + scenes[:1]) < 0.5
    values = stack_pictures([render(scene, 16) for scene in scenes])
    assert tuning.scene_scores(values, values) == [1.0] * 20
    letters = stack_pictures([render_letters(Lettering(word, "red", "blue"), 16) for word in ("A", "BC", "X")])
    assert tuning.letter_scores(letters, letters.flip(0)) == [0.0, 1.0, 0.0]


def test_what_is_reached_without_a_model() -> None:
    """Edits change one part of a scene in four; of answers a, b, b the commonest is right twice."""
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


def test_the_best_of_several_is_by_words_and_picture(data: ExperimentData) -> None:
    """Of a document's own picture and another the one is taken that the finder likes better."""
    documents = data.test_scenes.documents[:2]
    images = data.test_scenes.pictures[:4]
    chosen = rerank(data, documents, images, 2)
    assert chosen.shape[0] == 2
    assert any(torch.equal(chosen[0], image) for image in images[:2])
    assert any(torch.equal(chosen[1], image) for image in images[2:])
    assert repeat_each([1, 2], 2) == [1, 1, 2, 2]


def test_pictures_are_drawn_behind_documents(data: ExperimentData) -> None:
    """Two ways by turns, with a memory; all that is drawn is of the codebook."""
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


def test_the_tuned_one_begins_with_the_other() -> None:
    """Two steps at a low rate: near, and not the same; the base model is untouched."""
    base, tuned = base_model(TINY, 0, 2), tuned_model(TINY, 0)
    before = base.token_embed.weight
    assert not torch.equal(before, tuned.token_embed.weight)
    assert (before - tuned.token_embed.weight).abs().max() < 3e-3
    assert base is base_model(TINY, 0, 2)


@pytest.mark.slow
def test_side_by_side_is_the_same_as_one_after_the_other() -> None:
    """Four trainings in two processes, and the tuned decoder behind the one that it goes on from."""
    parallel = replace(TINY, workers=2)
    for serial_model, parallel_model in (
        (base_model(TINY, 0, 1), base_model(parallel, 0, 1)),
        (tuned_model(TINY, 0), tuned_model(parallel, 0)),
    ):
        assert all(
            torch.equal(value, parallel_model.state_dict()[name]) for name, value in serial_model.state_dict().items()
        )
