"""Texts encoded by a transformers model in a local folder: values, records, and folders that are refused."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.core.errors import FellerWarning, InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.conditions.condition import Condition
from feller.data.conditions.encoded_texts import EncodedTextCondition, fit_encoded_text
from feller.data.text_encoder import load_text_encoder
from tests.errors import refuses

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "car", "bike"]
TEXTS = ["red car", "", "blue bike", "red bike", "red car"]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A tiny BERT with random weights, and its tokenizer."""
    return write_encoder(tmp_path / "bert")


def write_encoder(path: pathlib.Path) -> pathlib.Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=6, **sizes)
    transformers.BertModel(config).eval().save_pretrained(path)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_vectors_are_the_mean_features_of_the_model(folder: pathlib.Path) -> None:
    condition = fit_encoded_text("caption", TEXTS, str(folder))
    assert from_dict(Condition, to_dict(condition)) == condition
    values = condition.encode("caption", TEXTS)
    model = transformers.BertModel.from_pretrained(folder).eval()
    for text, value in zip(TEXTS, values, strict=True):
        ids = torch.tensor([[2, *map(WORDS.index, text.split()), 3]])
        expected = model(ids).last_hidden_state[0].mean(0).detach().double()
        torch.testing.assert_close(value, expected if text else torch.full((8,), torch.nan).double(), equal_nan=True)
    assert condition.decode(values).tolist() == TEXTS
    assert condition.is_null(values).tolist() == [not text for text in TEXTS]
    present = values[[0, 2, 3, 4]]
    np.testing.assert_allclose(condition.mean, present.mean(0))
    np.testing.assert_allclose(condition.scale, present.std(0, correction=0))


def test_long_texts_are_cut_with_one_warning(folder: pathlib.Path) -> None:
    condition = fit_encoded_text("caption", TEXTS, str(folder))
    with pytest.warns(FellerWarning) as caught:
        values = condition.encode("caption", ["red car red car red car", "red car red car"])
    assert len(caught) == 1
    assert "1 of 2" in str(caught[0].message)
    torch.testing.assert_close(values[0], values[1])


def test_other_or_missing_folder_is_refused(folder: pathlib.Path) -> None:
    condition = fit_encoded_text("caption", TEXTS, str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    with refuses(UsageError, argument="caption"):
        condition.parse("caption", "red car", 1)
    folder.rename(folder.parent / "elsewhere")
    with refuses(UsageError, argument="caption"):
        condition.parse("caption", "red car", 1)
    with refuses(InputError, argument="caption"):
        fit_encoded_text("caption", ["red", "red", ""], str(folder.parent / "elsewhere"))


def test_folders_without_a_safe_text_model_are_refused(folder: pathlib.Path) -> None:
    weights = folder / "model.safetensors"
    content, config = weights.read_bytes(), (folder / "config.json").read_text()
    weights.rename(folder / "pytorch_model.bin")
    with refuses(InputError, file=str(folder)) as caught:
        load_text_encoder(str(folder))
    assert "pickled" in str(caught.value.found)
    for wrong in (content[: len(content) // 2], b"x"):
        weights.write_bytes(wrong)
        with refuses(InputError, file=str(folder)):
            load_text_encoder(str(folder))
    weights.write_bytes(content)
    for change in ({"num_hidden_layers": 2}, {"model_type": "unknown"}, {"model_type": "vit"}):
        (folder / "config.json").write_text(json.dumps({**json.loads(config), **change}))
        with refuses(InputError, file=str(folder)):
            load_text_encoder(str(folder))
    for name in ("tokenizer.json", "config.json"):
        (folder / name).unlink()
        with refuses(InputError, file=str(folder)):
            load_text_encoder(str(folder))


def test_code_of_the_folder_is_not_run(folder: pathlib.Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    automatic = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps({**config, **automatic}))
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with refuses(InputError, file=str(folder)):
        load_text_encoder(str(folder))
    assert not (folder / "ran").exists()


def test_settings_that_choose_code_do_not_reach_the_model(folder: pathlib.Path) -> None:
    plain = load_text_encoder(str(folder)).vector("red car")
    config = json.loads((folder / "config.json").read_text())
    kernel = dict.fromkeys(("attn_implementation", "_attn_implementation"), "kernels-community/flash-attn2")
    (folder / "config.json").write_text(json.dumps({**config, **kernel}))
    (folder / ".metadata").write_bytes(b"no pickle")
    encoder = load_text_encoder(str(folder))
    assert encoder.model.config._attn_implementation == "sdpa"
    np.testing.assert_array_equal(encoder.vector("red car"), plain)


def test_points_are_fitted_and_sampled_with_encoded_texts(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The conditional mean of a fit follows the text; samples keep their texts."""
    rng = np.random.default_rng(0)
    texts = rng.choice(["red car", "blue bike"], 400)
    frame = pd.DataFrame({"y": np.where(texts == "red car", 3.0, -3.0) + 0.1 * rng.normal(size=400), "caption": texts})
    run = feller.fit(
        frame, condition=[f"caption={folder}"], size="tiny", steps=80, report=False, out=str(tmp_path / "run")
    )
    samples = run.sample(100, given={"caption": "red car"}, seed=0)
    assert samples["y"].mean() > 1
    assert {*samples["caption"]} == {"red car"}
    assert isinstance(run.model.spec.modality.selected_conditions["caption"], EncodedTextCondition)
    data = feller.read(frame, like=run.model.spec.modality)
    assert data.given["caption"].shape == (400, 8)
