"""Text and image embeddings of the bi-encoder."""

import json
import math
import pathlib

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import from_dict, to_dict
from feller.data.documents.document_encoder import DocumentEncoder
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks import BiEncoder, LearnedDocumentEncoder
from feller.networks.sequence.bi_encoder import extract_images, mask_tokens
from feller.networks.sequence.ngram_vectors import NUM_BUCKETS, HashedNgrams, mix_hash
from tests.errors import refuses
from tests.oracle import close

S = DocumentVocabulary(text=30, codes=16, picture=4)
LETTERS = " abcdefghijklmnopqrstuvwxyz"


def row(*parts: str | list[int], length: int = 60) -> list[int]:
    """Return a document of texts and of images, given as codes from 0."""
    tokens = [S.eos]
    for part in parts:
        texts = isinstance(part, str)
        tokens += [*(map(LETTERS.index, part) if texts else (S.text + code for code in part)), S.break_token]
    return tokens + [S.pad] * (length - len(tokens))


def rows(*documents: list[int]) -> Tensor:
    return torch.tensor(documents)


def texts(*texts: str, counted: Tensor | None = None) -> Tensor:
    """Return the embeddings of documents with one text each."""
    ngrams = HashedNgrams(S, 512)
    if counted is not None:
        ngrams.update_counts(counted)
    return ngrams(rows(*(row(text) for text in texts)))[0]


CORPUS = [
    f"a {colour} {thing} on a {ground} ground"
    for colour in ("red", "green")
    for thing in ("wug", "blick", "dax")
    for ground in ("blue", "white", "black")
]


def test_mix_hash_is_splitmix64() -> None:
    """Its first numbers from the seed 0, as its authors print them: state k times the golden ratio, then mixed."""
    states = torch.tensor([0x9E3779B97F4A7C15 - 2**64, (2 * 0x9E3779B97F4A7C15) % 2**64, 0])
    assert [number % 2**64 for number in mix_hash(states).tolist()] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0]
    assert len(mix_hash(torch.arange(100_000)).unique()) == 100_000


def test_text_vectors_are_normalised_and_deterministic() -> None:
    vectors = texts("a red wug", "a red wug", "", "b")
    close(vectors.norm(dim=1), torch.tensor([1.0, 1.0, 0.0, 1.0]), 1e-6)
    assert torch.equal(vectors[0], vectors[1])
    wider = HashedNgrams(S, 512)(rows(row("a red wug", length=80)))[0]
    assert torch.equal(wider[0], vectors[0])


def test_counts_are_document_frequencies() -> None:
    """An n-gram counts once for a document, however often it is there, and n-grams reach over no <break>."""
    ngrams = HashedNgrams(S, 64)
    ngrams.update_counts(rows(row("aaaa", "aa"), row("ab"), row([1, 2, 3, 4])))
    assert int(ngrams.num_documents) == 3
    assert sorted(ngrams.document_frequency[ngrams.document_frequency > 0].tolist()) == [1] * 5 + [
        2
    ]  # aa aaa aaaa b ab, and a
    ngrams.update_counts(rows(row("a")))
    assert int(ngrams.num_documents) == 4
    assert int(ngrams.document_frequency.max()) == 3


def test_text_vector_is_the_tfidf_sum_of_ngrams() -> None:
    ngrams = HashedNgrams(S, 512)
    ngrams.update_counts(rows(row("a"), row("c")))
    one, both = (ngrams(rows(row(text)))[0][0] for text in ("a", "ab"))
    a, rest = float(both @ one), both - (both @ one) * one
    seen, new = math.log(4 / 2), math.log(4 / 1)
    assert abs(a) == pytest.approx(seen / math.sqrt(seen**2 + 2 * new**2), abs=1e-6)
    assert rest.abs().sort().values[-3:].tolist() == pytest.approx(
        [0.0] + [new / math.sqrt(seen**2 + 2 * new**2)] * 2, abs=1e-6
    )


def test_rare_ngrams_dominate_similarity() -> None:
    counted = rows(*map(row, CORPUS))
    query, *others = texts(
        "a green zorp on a white ground",
        "a red zorp on a black ground",
        "a green wug on a white ground",
        "a green blick on a white ground",
        counted=counted,
    )
    likeness = [float(query @ other) for other in others]
    assert likeness[0] > max(likeness[1:]) + 0.2
    plain, *others = texts(
        "a green zorp on a white ground", "a red zorp on a black ground", "a green wug on a white ground"
    )
    assert float(plain @ others[0]) < float(plain @ others[1])  # which without counts is not so


def test_unlike_texts_are_nearly_orthogonal() -> None:
    """Of 512 random signs an inner product has a deviation of 0.044 where n-grams have nothing in common."""
    a, b = texts("abcdefg", "hijklmn")
    assert abs(float(a @ b)) < 5 / math.sqrt(512)


def test_several_texts_are_averaged() -> None:
    ngrams = HashedNgrams(S, 512)
    both, first, second = ngrams(rows(row("red wug", "dax"), row("red wug"), row("dax")))[0]
    close(both, torch.nn.functional.normalize(first + second, dim=0), 1e-6)


def test_complete_images_are_extracted() -> None:
    document = rows(row("ab", [1, 2, 3, 4], [5, 6, 7, 8], "c"), row("ab", [1, 2, 3]), row([9, 10, 11, 12]), row("abcd"))
    codes, owner = extract_images(document, S)
    assert codes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert owner.tolist() == [0, 0, 2]
    document[2, 2] = S.mask
    codes, owner = extract_images(document, S)
    assert codes[2].tolist() == [9, S.codes, 11, 12]


def test_mask_tokens_masks_content_at_its_rate() -> None:
    """20,000 tokens, 5 standard errors; a false alarm in one of 1.7 million."""
    document = rows(row("abcdef", [1, 2, 3, 4], length=20)).expand(2000, -1)
    gapped = mask_tokens(document, S, 0.2, Rng(0).stream("gaps"))
    content = document < S.eos
    assert torch.equal(gapped[~content], document[~content])
    gone = gapped[content] == S.mask
    assert abs(gone.double().mean() - 0.2) < 5 * math.sqrt(0.2 * 0.8 / int(content.sum()))
    assert torch.equal(mask_tokens(document, S, 0.0, Rng(0).stream("gaps")), document)


def test_vectors_of_documents() -> None:
    finder = LearnedDocumentEncoder(BiEncoder(S, (2, 2), width=8, size=64))
    documents = rows(
        row("a wug", [1, 2, 3, 4], [5, 6, 7, 8]), row("a wug"), row([1, 2, 3, 4]), row([5, 6, 7, 8]), row()
    )
    found = finder(documents)
    assert found.has_text.tolist() == [True, True, False, False, False]
    assert found.has_picture.tolist() == [True, False, True, True, False]
    close(found.picture.norm(dim=1), torch.tensor([1.0, 0, 1, 1, 0]), 1e-5)
    close(found.picture[0], torch.nn.functional.normalize(found.picture[2] + found.picture[3], dim=0), 1e-5)
    assert torch.equal(found.text[0], found.text[1])
    whole = found.whole()
    close(whole[:4].norm(dim=1), torch.ones(4), 1e-5)
    close(whole[2], found.picture[2], 1e-6)
    assert torch.equal(finder(documents[:0]).text, torch.zeros(0, 64))
    assert not found.picture.requires_grad


def test_output_norm_is_the_logit_scale() -> None:
    network = BiEncoder(S, (2, 2), width=8, size=64).build((60,), {}, Rng(0))
    codes = Rng(0).stream("codes").randint(17, (5, 4))
    close(network(codes, torch.zeros(5), {}).norm(dim=1), torch.full((5,), 1 / 0.07), 1e-4)
    network.logit_scale.data.fill_(9.0)
    close(network(codes, torch.zeros(5), {}).norm(dim=1), torch.full((5,), 100.0), 1e-3)


def test_records_names_and_weights(tmp_path: pathlib.Path) -> None:
    finder = LearnedDocumentEncoder(BiEncoder(S, (2, 2), width=8, size=64))
    again = from_dict(DocumentEncoder, json.loads(json.dumps(to_dict(finder))))
    assert again == finder
    assert again.name == finder.name
    finder.module.text_encoder.update_counts(rows(row("a wug")))
    assert again.name != finder.name
    save_tensors(tmp_path / "weights", finder.module.state_dict())
    again.module.load_state_dict(load_tensors(tmp_path / "weights")[0])
    assert again.name == finder.name
    assert int(again.module.text_encoder.num_documents) == 1
    assert len(again.module.text_encoder.document_frequency) == NUM_BUCKETS


def test_settings_out_of_range_are_refused() -> None:
    with refuses(UsageError, found="3 x 2"):
        BiEncoder(S, (3, 2))
    with refuses(UsageError):
        BiEncoder(S, (2, 2), width=0)
    with refuses(UsageError):
        BiEncoder(S, (2, 2)).build((1, 8, 8), {}, Rng(0))
    with refuses(UsageError):
        BiEncoder(S, (2, 2)).build((8,), {"label": 3}, Rng(0))
