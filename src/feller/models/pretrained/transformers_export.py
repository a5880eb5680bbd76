"""Export of language models to folders that `from_pretrained` of transformers opens."""

import pathlib
import tempfile

from feller.core.errors import InputError, UsageError
from feller.core.pretrained_folder import CONFIG, check_outside, copy_own_file
from feller.core.safetensors_io import save_tensors
from feller.data.text.modality import Text
from feller.data.text.pretrained_subwords import PretrainedSubwords
from feller.models.model import Model
from feller.models.pretrained.llada import LLADA, llada_name
from feller.models.pretrained.transformers_folder import TOKENIZER, TOKENIZER_CONFIG
from feller.models.pretrained.transformers_network import TransformersModule
from feller.networks.unwrapping import unwrap_network

COPIED = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)
"""Files of the source that are copied, if they are there."""


def export_language_model(model: Model, source: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Write a language model of transformers to a new folder, and return it: configuration, weights and tokenizer.

    Args:
        model: Model that was read from a folder of transformers, with its weights of then or fine-tuned ones.
        source: That folder, whose tokenizer files are copied.
        out: New folder.

    Raises:
        UsageError: If the model is not one of transformers, or the new folder exists and is not empty, or is inside
            the source.
        InputError: If the source has another tokenizer than the model, or links to other places.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(argument="out", expected="a new folder", found=str(out), remedy="Use another folder")
    check_outside(source, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        complete = pathlib.Path(folder) / "complete"
        write_language_model(model, source, complete)
        complete.replace(out)
    return out


def write_language_model(model: Model, source: pathlib.Path, out: pathlib.Path) -> None:
    """Write a language model to a folder, file by file; arguments and errors as for `export_language_model`."""
    network, modality = unwrap_network(model.network), model.spec.modality
    text = modality.view(Text)
    vocabulary = None if text is None else text.vocabulary
    if not isinstance(network, TransformersModule) or not isinstance(vocabulary, PretrainedSubwords):
        found = type(model.spec.architecture).__name__
        raise UsageError("a language model from a folder of transformers", found, argument="model")
    file = source / TOKENIZER
    if not file.is_file() or file.read_text(encoding="utf-8") != vocabulary.tokenizer:
        found = "another one" if file.is_file() else "none"
        raise InputError("the tokenizer of the model", found, "Use the folder that was imported", file=file)
    is_llada = network.config.class_name == LLADA
    if is_llada:
        names = [name for name in network.inner.state_dict() if name not in network.tied]
        out.mkdir(parents=True, exist_ok=True)
        weights = {llada_name(name): network.inner.state_dict()[name] for name in names}
        save_tensors(out / "model.safetensors", weights, {"format": "pt"})
    else:
        network.inner.save_pretrained(out)
    for name in (*COPIED, CONFIG) if is_llada else COPIED:
        if (source / name).is_file():
            copy_own_file(source, source / name, out / name)
