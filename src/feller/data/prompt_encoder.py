"""Text encoders of diffusers pipelines in local folders.

Only known classes of diffusers and transformers are built. No code and no pickled file of the folder is executed, and
nothing is downloaded.
"""

import functools
import hashlib
import inspect
import pathlib
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError, message_of
from feller.core.pretrained_folder import (
    CONFIG,
    component_class,
    digest_of,
    load_encoder,
    read_config,
    require_diffusers,
    require_transformers,
    weight_files,
)

KNOWN_PROMPTS: dict[bytes, str] = {}
"""Prompt of each vector of features that this process has computed, by the hash of the vector."""
MAX_KNOWN, MAX_PROMPTS = 256, 100_000
"""Maximum numbers of prompts whose features are kept, and of prompts in `KNOWN_PROMPTS`; the oldest are dropped."""
ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")
PIPELINES = {
    "StableDiffusionPipeline": ("text_encoder",),
    "StableDiffusionXLPipeline": ("text_encoder", "text_encoder_2"),
    "StableDiffusion3Pipeline": ("text_encoder", "text_encoder_2", "text_encoder_3"),
    "FluxPipeline": ("text_encoder", "text_encoder_2"),
}
"""Text encoders of each known pipeline with prompts."""
ZEROS = "force_zeros_for_empty_prompt"
"""Setting of SDXL, true if the features of no prompt are zero."""
OPTIONAL_ENCODERS = {"StableDiffusion3Pipeline": ("text_encoder_3",)}
"""Text encoders of a pipeline that may be left out."""


class PromptEncoder:
    """Frozen text encoders of a pipeline; each prompt is encoded once."""

    def __init__(self, pipeline: Any, folder: str, digest: str) -> None:
        self.pipeline, self.folder, self.digest = pipeline, folder, digest
        self._known: dict[str, tuple[Tensor, Tensor]] = {}

    def cut_after(self, text: str) -> int | None:
        """Return the smallest number of tokens after which a text encoder cuts a prompt; None if all read it whole."""
        limits = []
        for name in PIPELINES[type(self.pipeline).__name__]:
            tokenizer = getattr(self.pipeline, _tokenizer(name), None)
            if tokenizer is not None:
                limit = tokenizer.model_max_length if "CLIP" in type(tokenizer).__name__ else self._max_t5_tokens
                limits += [limit] if len(tokenizer(text).input_ids) > limit else []
        return min(limits, default=None)

    @property
    def _max_t5_tokens(self) -> int:
        return 512 if type(self.pipeline).__name__ == "FluxPipeline" else 256

    def features(self, text: str) -> tuple[Float[Tensor, "length width"], Float[Tensor, " pooled"]]:
        """Return the features of the tokens of a prompt, and those of the whole prompt."""
        if text not in self._known:
            _make_room(self._known, MAX_KNOWN)
            self._known[text] = self._encode(text, negative=False)
            key = hash_of(self.vector(text))
            KNOWN_PROMPTS.pop(key, None)
            _make_room(KNOWN_PROMPTS, MAX_PROMPTS)
            KNOWN_PROMPTS[key] = text
        return self._known[text]

    def vector(self, text: str) -> Float[Tensor, " f"]:
        """Return the features of a prompt as one vector."""
        return _joined(*self.features(text))

    def null_vector(self) -> Float[Tensor, " f"]:
        """Return the features that stand for no prompt, as one vector."""
        return _joined(*self._encode("", negative=True))

    @torch.no_grad()
    def _encode(self, text: str, negative: bool) -> tuple[Tensor, Tensor]:
        """Return features of a prompt, or of its counterpart without a prompt, from the pipeline's own function."""
        kind, device = type(self.pipeline).__name__, torch.device("cpu")
        if kind == "StableDiffusionPipeline":
            outputs = self.pipeline.encode_prompt(text, device, 1, do_classifier_free_guidance=negative)
            tokens, pooled = outputs[int(negative)], torch.zeros(1, 0)
        elif kind == "StableDiffusionXLPipeline":
            outputs = self.pipeline.encode_prompt(text, device=device, do_classifier_free_guidance=negative)
            tokens, pooled = outputs[int(negative)], outputs[2 + int(negative)]
        elif kind == "StableDiffusion3Pipeline":
            outputs = self.pipeline.encode_prompt(text, text, text, device, do_classifier_free_guidance=negative)
            tokens, pooled = outputs[int(negative)], outputs[2 + int(negative)]
        else:
            tokens, pooled, _ = self.pipeline.encode_prompt(text, device=device)
        return tokens[0].float(), pooled[0].float()


def hash_of(features: Float[Tensor, " f"]) -> bytes:
    """Return the hash of a vector of features."""
    return hashlib.sha256(features.detach().cpu().float().numpy().tobytes()).digest()


def _make_room(entries: dict[Any, Any], limit: int) -> None:
    while len(entries) >= limit:
        entries.pop(next(iter(entries)))


def _joined(tokens: Tensor, pooled: Tensor) -> Tensor:
    return torch.cat([tokens.flatten(), pooled])


def load_prompt_encoder(folder: str) -> PromptEncoder:
    """Return the text encoders of the pipeline in a folder that `save_pretrained` wrote.

    Raises:
        InputError: If components are missing, damaged, pickled or of unknown classes.
    """
    path = pathlib.Path(folder)
    if not path.is_dir():
        raise InputError("the folder of the pipeline", "none", "Put it back, or import it again", file=folder)
    index = read_config(path / "model_index.json")
    kind = str(index.get("_class_name"))
    if kind not in PIPELINES:
        raise InputError(f"one of the pipelines {', '.join(PIPELINES)}", kind, file=path / "model_index.json")
    present, files = [], [path / "model_index.json"]
    for name in PIPELINES[kind]:
        if component_class(path, index, name, ENCODERS, optional=name in OPTIONAL_ENCODERS.get(kind, ())) is None:
            continue
        component_class(path, index, _tokenizer(name), TOKENIZERS)
        files += [*weight_files(path / name), *sorted((path / name).glob("*.json"))]
        files += sorted(file for file in (path / _tokenizer(name)).iterdir() if file.is_file())
        present.append(name)
    return _loaded(folder, kind, tuple(present), digest_of(path, files))


def _tokenizer(encoder: str) -> str:
    """Return the name of the tokenizer of a text encoder."""
    return encoder.replace("text_encoder", "tokenizer")


@functools.lru_cache(maxsize=2)
def _loaded(folder: str, kind: str, present: tuple[str, ...], digest: str) -> PromptEncoder:
    purpose, path = f"the pipeline {folder}", pathlib.Path(folder)
    diffusers, transformers = require_diffusers(purpose), require_transformers(purpose)
    index = read_config(path / "model_index.json")
    parts: dict[str, Any] = {}
    try:
        for name in present:
            encoder_class, tokenizer_class = (
                getattr(transformers, index[part][1]) for part in (name, _tokenizer(name))
            )
            encoder = load_encoder(encoder_class, path / name, read_config(path / name / CONFIG))
            parts[name] = encoder.eval().requires_grad_(False)
            parts[_tokenizer(name)] = tokenizer_class.from_pretrained(path / _tokenizer(name), local_files_only=True)
        pipeline_class = getattr(diffusers, kind)
        parameters = inspect.signature(pipeline_class.__init__).parameters
        options = {"requires_safety_checker": False, ZEROS: index.get(ZEROS, True)}
        components = {name: options.get(name, parts.get(name)) for name in parameters if name != "self"}
        pipeline = pipeline_class(**components)
        if kind == "StableDiffusion3Pipeline":  # it reads the width of features if a text encoder is left out
            pipeline.transformer = SimpleNamespace(config=SimpleNamespace(**read_config(path / "transformer" / CONFIG)))
        encoder = PromptEncoder(pipeline, folder, digest)
        encoder.features("")
    except Exception as error:  # diffusers, transformers and tokenizers raise many types
        found = message_of(error, 200)
        raise InputError("text encoders that diffusers and transformers load", found, file=folder) from error
    return encoder
