"""Language models in folders of transformers against the package's own logits, losses and continuations."""

import json
import pathlib
import shutil
from typing import Any

import pytest
import torch
import transformers

import feller
from feller.core.errors import InputError, UsageError
from feller.data.text.modality import Text
from feller.models.families.model_family import PartialObservation
from feller.models.model import Model, load_model
from feller.models.pretrained.transformers_export import export_language_model
from feller.models.pretrained.transformers_folder import load_language_model
from feller.models.pretrained.transformers_network import transformers_config
from feller.networks.blocks.lora import LoRA
from feller.paths.discrete.token_sampler import TokenSampler
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop, clipped_by_vmap
from tests.errors import refuses
from tests.models.pretrained.tiny_text import CAUSAL, MASKED, POSITIONS, SENTENCES, make, save

LENGTH = 20
GREEDY = TokenSampler(temperature=0.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Folder of each language model."""
    root = tmp_path_factory.mktemp("language-models")
    return {name: save(name, root / name) for name in (*CAUSAL, *MASKED)}


def text_of(model: Model) -> Text:
    modality = model.spec.modality
    assert isinstance(modality, Text)
    return modality


def order_of(model: Model) -> torch.Tensor:
    """Return the id in the tokenizer of each token of the state."""
    return model.network.order


def start_of(tokenizer: Any) -> list[int]:
    """Return the ids before a text: a tokenizer without BOS uses the end of the text before it."""
    return tokenizer("").input_ids or [tokenizer.eos_token_id]


def observed_in(model: Model, template: str, n: int) -> PartialObservation:
    ids, mask = text_of(model).observed_tokens(template)
    return PartialObservation(ids.expand(n, -1), mask.expand(n, -1))


@pytest.mark.parametrize("name", CAUSAL)
def test_log_prob_is_the_loss_of_the_package(name: str, folders: dict[str, pathlib.Path]) -> None:
    (package, tokenizer), model = make(name), load_language_model(folders[name])
    nats = model.log_prob(SENTENCES[:3])
    for sentence, value in zip(SENTENCES[:3], nats.tolist(), strict=True):
        ids = tokenizer(sentence, add_special_tokens=False).input_ids
        row = torch.tensor([[*start_of(tokenizer), *ids, tokenizer.eos_token_id]])
        loss = package(input_ids=row, labels=row).loss.item()
        assert -value / (len(ids) + 1) == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_greedy_continuation_of_the_package(name: str, folders: dict[str, pathlib.Path]) -> None:
    (package, tokenizer), model = make(name), load_language_model(folders[name], LENGTH)
    prompts = ["the cat", "a dog ran"]
    observed = [observed_in(model, prompt, 1) for prompt in prompts]
    both = PartialObservation(*(torch.cat([getattr(o, field) for o in observed]) for field in ("values", "mask")))
    sampling = feller.SamplerConfig("euler", LENGTH, token_sampler=GREEDY)
    samples = order_of(model)[model.sample_dataset(2, observed=both, sampling=sampling).values].tolist()
    for prompt, sample in zip(prompts, samples, strict=True):
        start = start_of(tokenizer)
        row = torch.tensor([[*start, *tokenizer(prompt, add_special_tokens=False).input_ids]])
        generated = package.generate(row, do_sample=False, max_length=LENGTH + 1, pad_token_id=1)[0].tolist()
        assert sample[: len(generated) - 1] == generated[1:]
        assert len(generated) > row.shape[1] + 1


@pytest.mark.parametrize("name", MASKED)
def test_masked_tokens_are_those_of_the_package(name: str, folders: dict[str, pathlib.Path]) -> None:
    (package, tokenizer), model = make(name), load_language_model(folders[name], 6)
    ids = torch.tensor([tokenizer("the cat [MASK] on the [MASK]").input_ids])
    logits = package(input_ids=ids).logits[:, 1:-1]
    logits[..., tokenizer.mask_token_id] = -torch.inf
    kept = order_of(model)[:-1]
    mask = len(kept)
    x_t = torch.tensor([[*order_of(model).argsort()[ids[0, 1:-1]]]])
    assert (x_t == mask).sum() == 2
    ours = model.network(x_t, torch.zeros(1), {})
    torch.testing.assert_close(ours, logits[..., kept], atol=1e-4, rtol=1e-4)
    logits[:, :5, tokenizer.sep_token_id] = -torch.inf  # a text does not end before a known token
    sampling = feller.SamplerConfig("euler", 1, token_sampler=GREEDY)
    x = model.sample_dataset(1, observed=PartialObservation(x_t % mask, x_t != mask), sampling=sampling).values
    expected = torch.where(ids[:, 1:-1] == tokenizer.mask_token_id, logits.argmax(-1), ids[:, 1:-1])
    assert torch.equal(kept[x], expected)


@pytest.mark.parametrize("name", MASKED)
def test_likelihood_bound_is_exact_for_one_token(name: str, folders: dict[str, pathlib.Path]) -> None:
    (package, tokenizer), model = make(name), load_language_model(folders[name], 1)
    ids = torch.tensor([tokenizer("[MASK]").input_ids])
    logits = package(input_ids=ids).logits[0, 1]
    logits[tokenizer.mask_token_id] = -torch.inf
    token = tokenizer("dog", add_special_tokens=False).input_ids[0]
    nats, std_err = model.nll(["dog"], times=8, return_std_err=True)
    assert nats.item() == pytest.approx(-logits.log_softmax(0)[token].item(), abs=1e-4)
    assert std_err.item() < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "modernbert"])
def test_training_step_and_run(name: str, folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    model = load_language_model(folders[name])
    assert model.objective is not None
    data = feller.read(SENTENCES, like=model.spec.modality)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-2)
    losses, objective = [], model.objective.build(feller.training.objective.TrainingContext())
    for step in range(4):
        example = objective.draw({"x_1": data.values}, feller.Rng(0).step(step), model.network)
        loss = objective.loss(model.network, example).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    model.save(str(tmp_path / "run"))
    opened = load_model(tmp_path / "run")
    assert opened.spec == model.spec
    first, second = (m.sample_dataset(2, rng=feller.Rng(3)).values for m in (model, opened))
    assert torch.equal(first, second)


def test_sharded_weights(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    save("llama", tmp_path, max_shard_size="20KB")
    assert len([*tmp_path.glob("*.safetensors")]) > 1
    plain, sharded = (load_language_model(folder).network.state_dict() for folder in (folders["llama"], tmp_path))
    assert plain.keys() == sharded.keys()
    assert all(torch.equal(plain[name], sharded[name]) for name in plain)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["another.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with refuses(InputError):
        load_language_model(tmp_path)


def test_special_tokens_in_texts_are_characters(folders: dict[str, pathlib.Path]) -> None:
    model = load_language_model(folders["gpt2"])
    vocabulary, eos = text_of(model).vocabulary, text_of(model).eos_token_id
    text = "the <|endoftext|> cat"
    assert eos not in vocabulary.encode(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def _unlink(folder: pathlib.Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: pathlib.Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _set(key: str, value: object) -> Any:
    def change(folder: pathlib.Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _unlink,
        _pickled,
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: (folder / "config.json").unlink(),
        _set("architectures", ["MyModelForCausalLM"]),
        _set("architectures", None),
        _set("quantization_config", {"quant_method": "bitsandbytes"}),
        _set("n_layer", 3),
        _set("n_embd", 32),
        _set("n_embd", "many"),
        _set("vocab_size", 20),
        _set("vocab_size", 10**11),
        _set("n_positions", 10**11),
        _set("n_embd", 10**6),
        _set("n_inner", 10**11),
        _set("n_layer", 10**8),
    ],
)
def test_damaged_folders_are_refused(change: Any, folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folders["gpt2"], folder)
    change(folder)
    with refuses(InputError):
        load_language_model(folder)


@pytest.mark.parametrize("name", [*CAUSAL, *MASKED])
def test_settings_that_choose_code_do_not_reach_the_model(
    name: str, folders: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    kernel = "kernels-community/flash-attn2"
    shutil.copytree(folders[name], tmp_path / "copy")
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        _set(key, kernel)(tmp_path / "copy")
    for key in ("experts_implementation", "_experts_implementation", "kernel_config", "fusion_config"):
        _set(key, kernel)(tmp_path / "copy")
    model, plain = load_language_model(tmp_path / "copy"), load_language_model(folders[name])
    assert kernel not in str(model.network.inner.config.__dict__)
    assert model.network.inner.config._attn_implementation == "sdpa"
    assert model.spec == plain.spec
    record = json.dumps(json.loads(model.spec.architecture.config) | {"attn_implementation": kernel})
    config = transformers_config(model.spec.architecture.class_name, record)  # as in the run of a stranger
    assert config._attn_implementation == "sdpa"


def test_texts_fit_the_positions(folders: dict[str, pathlib.Path]) -> None:
    assert text_of(load_language_model(folders["gpt2"])).length == POSITIONS
    assert text_of(load_language_model(folders["bert"])).length == POSITIONS - 2
    with refuses(UsageError, argument="length"):
        load_language_model(folders["gpt2"], POSITIONS + 1)
    with refuses(UsageError):
        text_of(load_language_model(folders["gpt2"])).observed_tokens("the cat " * POSITIONS)


@pytest.mark.parametrize("name", [*CAUSAL, *MASKED])
def test_export_opens_in_the_package(name: str, folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    (package, tokenizer), model = make(name), load_language_model(folders[name])
    out = export_language_model(model, folders[name], tmp_path / "export")
    assert [*tmp_path.iterdir()] == [out]
    opened, notes = type(package).from_pretrained(out, local_files_only=True, output_loading_info=True)
    assert not notes["missing_keys"] | notes["unexpected_keys"]
    ids = tokenizer(SENTENCES[0], return_tensors="pt").input_ids
    again = transformers.AutoTokenizer.from_pretrained(out, local_files_only=True)
    assert torch.equal(again(SENTENCES[0], return_tensors="pt").input_ids, ids)
    assert torch.equal(opened(input_ids=ids).logits, package(input_ids=ids).logits)
    second = load_language_model(out)
    assert second.spec.modality == model.spec.modality
    ours, theirs = (m.network.state_dict() for m in (model, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with refuses(UsageError, argument="out"):
        export_language_model(model, folders[name], out)


def test_export_needs_the_tokenizer_of_the_model(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    with refuses(InputError):
        export_language_model(load_language_model(folders["gpt2"]), folders["llama"], tmp_path / "export")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "modernbert"])
def test_per_example_gradients(name: str, rank: int | None, folders: dict[str, pathlib.Path]) -> None:
    model = load_language_model(folders[name])
    network: torch.nn.Module = model.network.requires_grad_(True)
    if rank is not None:
        network = LoRA(network, rank, feller.Rng(0))
        for factor in network.lora_B.values():
            torch.nn.init.constant_(factor, 0.1)
    assert model.objective is not None
    objective = model.objective.build(feller.training.objective.TrainingContext())
    data = feller.read(SENTENCES[:3], like=model.spec.modality)
    example = objective.draw({"x_1": data.values}, feller.Rng(0), network)
    expected = clipped_by_loop(objective.loss, network, example, 0.2)
    clipped = clipped_by_vmap(objective.loss, network, example, 0.2)
    assert expected.norms.min() > 0.2
    for key, value in expected.sums.items():
        torch.testing.assert_close(clipped.sums[key], value, atol=1e-5, rtol=1e-4)
