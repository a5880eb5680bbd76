"""Language models in folders that `save_pretrained` of transformers wrote, with their tokenizers."""

import json
import pathlib
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, check_integer, error_context, message_of
from feller.core.pretrained_folder import (
    CONFIG,
    check_weight_count,
    load_folder_weights,
    load_transformers,
    read_config,
    without_code,
)
from feller.core.rng import Rng
from feller.data.byte_pairs import tokenizer_of
from feller.data.text.modality import Text
from feller.data.text.pretrained_subwords import PretrainedSubwords
from feller.models.families.path_process import family_trained_by
from feller.models.model import Model
from feller.models.pretrained.llada import LLADA, llama_name, llama_settings
from feller.models.pretrained.transformers_network import (
    CAUSAL,
    MASKED,
    TransformersModule,
    TransformersNetwork,
    transformers_class,
    transformers_config,
)
from feller.models.spec import ModelSpec
from feller.paths import Mixture
from feller.paths.time_distributions import Stratified
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens
from feller.training.losses import CrossEntropy, MaskedTokenLoss
from feller.training.objective import FlowMatching, ObjectiveConfig
from feller.training.objectives.next_token_prediction import NextTokenPrediction

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
ALIASES = {"BertForPreTraining": "BertForMaskedLM"}
"""Classes whose weights contain those of a known class."""
UNUSED = ("pooler", "seq_relationship")
"""Parts of the names of weights of other tasks, which language models leave out."""
DEFAULT_LENGTH = 256
"""Number of tokens of a text, unless the model has fewer positions."""
UNMASKING_STEPS = 64
"""Number of network evaluations of masked language models."""
MASKS = ("[MASK]", "<mask>")
"""Usual mask tokens."""


def load_language_model(folder: pathlib.Path, length: int | None = None) -> Model:
    """Return the language model in a folder of transformers, with its weights and its tokenizer.

    Causal language models become autoregressive models of texts, masked ones discrete flows from masks to texts.

    Args:
        folder: Folder with config.json, tokenizer.json and safetensors weights.
        length: Maximum number of tokens of a text; by default 256, or the positions of the model if these are fewer.

    Raises:
        InputError: If files are missing, damaged or pickled, or the class of the model is unknown.
        UsageError: If transformers is not installed, or a text is longer than the positions of the model.
    """
    settings = read_config(folder / CONFIG)
    class_name = _class_name(folder, settings)
    own_settings = _own_settings(folder, settings)
    if class_name == LLADA:
        with error_context(folder / CONFIG):
            own_settings = llama_settings(settings)
    record = json.dumps(own_settings, sort_keys=True)
    weights = _load_weights(folder, class_name, record)
    tokenizer, num_ids = _tokenizer(folder), int(transformers_config(class_name, record).vocab_size)
    if (num_tokens := tokenizer_of(tokenizer).get_vocab_size()) > num_ids:
        found = f"{num_tokens} in {TOKENIZER}"
        raise InputError(f"at most {num_ids} tokens, as in {CONFIG}", found, "Copy the whole folder again", file=folder)
    architecture = _architecture(folder, settings, class_name, record, tokenizer)
    vocabulary = PretrainedSubwords(tokenizer, num_ids, architecture.moved)
    limit = architecture.max_length or DEFAULT_LENGTH
    if length is not None:
        check_integer("length", length, ge=1)
        if architecture.max_length is not None and length > limit:
            raise UsageError(argument="length", expected=f"at most {limit}, the positions of the model", found=length)
    has_end = len(architecture.moved) == (1 if architecture.is_causal else 2)
    modality = Text(vocabulary, length or min(limit, DEFAULT_LENGTH), documents=has_end)
    objective = _objective(modality, is_causal=architecture.is_causal)
    steps = modality.length if architecture.is_causal else min(modality.length, UNMASKING_STEPS)
    family, _ = family_trained_by(objective)
    spec = ModelSpec(modality, objective.space, family, architecture, sampling=SamplerConfig("euler", steps))
    network = spec.build(Rng(0))
    assert isinstance(network, TransformersModule)
    network.inner.load_state_dict(weights)
    return Model.from_spec(spec, network.eval(), objective)


def _objective(modality: Text, *, is_causal: bool) -> ObjectiveConfig:
    """Return the training objective of a language model."""
    if is_causal:
        return NextTokenPrediction(modality.space(), cond_dropout=0.0, eos_token_id=modality.eos_token_id)
    source = MaskSource()
    space = Tokens(modality.vocab_size, (modality.length,), source)
    loss = MaskedTokenLoss(CrossEntropy())
    return FlowMatching(Mixture(source=source), space, loss, time_distribution=Stratified())


def _class_name(folder: pathlib.Path, settings: dict[str, Any]) -> str:
    """Return the known class of a model."""
    names = settings.get("architectures")
    found = str(names[0]) if isinstance(names, list) and names else "none"
    class_name = ALIASES.get(found, found)
    if class_name not in (*CAUSAL, *MASKED):
        raise InputError(f"a language model of {', '.join((*CAUSAL, *MASKED))}", found, file=folder / CONFIG)
    return class_name


def _own_settings(folder: pathlib.Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a configuration without those of code, of the folder's place and of number formats."""
    if settings.get("quantization_config") is not None:
        raise InputError("weights in floating point", "quantized ones", "Use the original model", file=folder / CONFIG)
    left_out = ("_name_or_path", "dtype", "torch_dtype", "quantization_config")
    return {key: value for key, value in without_code(settings).items() if key not in left_out}


def _tokenizer(folder: pathlib.Path) -> str:
    """Return the JSON serialisation of the tokenizer of a folder."""
    file = folder / TOKENIZER
    if not file.is_file():
        remedy = "Write it with save_pretrained of the model's fast tokenizer"
        raise InputError(f"a folder with {TOKENIZER}", "none", remedy, file=folder)
    try:
        record = file.read_text(encoding="utf-8")
        tokenizer_of(record)
    except (OSError, ValueError) as error:  # InputError is a ValueError
        raise InputError("a tokenizer of the package tokenizers", str(error)[:200], file=file) from error
    return record


def _architecture(
    folder: pathlib.Path, settings: dict[str, Any], class_name: str, record: str, tokenizer: str
) -> TransformersNetwork:
    """Return the network of a folder, with the special tokens of its tokenizer."""
    before, after = _template(tokenizer)
    own = read_config(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    end = _special_id(tokenizer, settings, own, "eos_token")
    if class_name in CAUSAL:
        start = (
            before or tuple(i for i in (_special_id(tokenizer, settings, own, "bos_token"), end) if i is not None)[:1]
        )
        if not start:
            raise InputError("a tokenizer with a BOS or an EOS token", "none", file=folder / TOKENIZER_CONFIG)
        return TransformersNetwork(class_name, record, () if end is None else (end,), start)
    mask = _special_id(tokenizer, settings, own, "mask_token", MASKS)
    if mask is None:
        raise InputError("a tokenizer with a mask token", "none", file=folder / TOKENIZER_CONFIG)
    end = after[0] if after else end
    return TransformersNetwork(class_name, record, (mask,) if end is None else (end, mask), before, after)


def _template(tokenizer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids of the special tokens that a tokenizer puts before and after a text."""
    encoding = tokenizer_of(tokenizer).encode("a")
    is_special = encoding.special_tokens_mask
    first = is_special.index(0) if 0 in is_special else len(is_special)
    last = len(is_special) - is_special[::-1].index(0) if 0 in is_special else len(is_special)
    return tuple(encoding.ids[:first]), tuple(encoding.ids[last:])


def _special_id(
    tokenizer: str, settings: dict[str, Any], own: dict[str, Any], name: str, usual: tuple[str, ...] = ()
) -> int | None:
    """Return the id of a special token, by the configuration of the model, then by that of the tokenizer."""
    number = settings.get(f"{name}_id")
    number = number[0] if isinstance(number, list) and number else number
    if isinstance(number, int):
        return number
    token = own.get(name)
    token = token.get("content") if isinstance(token, dict) else token
    ids = (tokenizer_of(tokenizer).token_to_id(word) for word in (token, *usual) if isinstance(word, str))
    return next((i for i in ids if i is not None), None)


def _load_weights(folder: pathlib.Path, class_name: str, record: str) -> dict[str, Tensor]:
    """Return the weights of a folder under the current names of transformers, in float32.

    Raises:
        InputError: If weights are missing, of other shapes, or not those of the class.
    """
    weights = load_folder_weights(folder)
    if class_name == LLADA:
        weights = {llama_name(name): weight for name, weight in weights.items()}
    try:
        config = transformers_config(class_name, record)

        def build() -> nn.Module:
            with torch.device("meta"):
                return transformers_class(class_name)(config)

        check_weight_count(folder, json.loads(record), weights, build)
        model, notes = load_transformers(transformers_class(class_name), config, weights)
    except InputError:
        raise
    except Exception as error:  # transformers raises many types
        found = message_of(error, 200)
        raise InputError(f"the weights of a {class_name}", found, "Copy the whole folder again", file=folder) from error
    unknown = {name for name in notes["unexpected_keys"] if not any(part in name for part in UNUSED)}
    if names := sorted({*notes["missing_keys"], *unknown}):
        found, remedy = f"{len(names)} others, such as {names[0]}", "Copy the whole folder again"
        raise InputError(f"the weights of a {class_name}", found, remedy, file=folder)
    return model.state_dict()
