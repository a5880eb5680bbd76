"""Frozen text encoders: transformers models in local folders.

No code and no pickled file of the folder is executed, and nothing is downloaded.
"""

import functools
import json
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from feller.core.errors import InputError, message_of
from feller.core.pretrained_folder import (
    CONFIG,
    PICKLED,
    digest_of,
    load_encoder,
    require_transformers,
)

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER = "tokenizer.json"
MAX_TOKENS = 512
"""Maximum number of tokens of a text, unless the model says less."""
KNOWN_TEXTS: dict[bytes, str] = {}
"""Text of each vector that this process has encoded, by the bytes of the vector."""


class TextEncoder:
    """Frozen model that encodes a text as the mean of the features of its tokens; texts are encoded once."""

    def __init__(self, model: nn.Module, tokenizer: "Tokenizer", max_tokens: int, digest: str) -> None:
        self.model, self.tokenizer, self.max_tokens, self.digest = model, tokenizer, max_tokens, digest
        self.vectors: dict[str, np.ndarray] = {}
        """Vector of each text that was encoded."""

    @functools.cached_property
    def width(self) -> int:
        """Number of features of a text."""
        return len(self._features(self._tokens("a")))

    def is_cut(self, text: str) -> bool:
        """Return True if a text has more tokens than the model reads."""
        return bool(self._tokens(text).overflowing)

    def vector(self, text: str) -> np.ndarray:
        """Return the mean features of the tokens of a text, float64 [width]."""
        if text not in self.vectors:  # one text at a time: padding would change the last digits
            self.vectors[text] = self._features(self._tokens(text))
            KNOWN_TEXTS[self.vectors[text].tobytes()] = text
        return self.vectors[text]

    def _tokens(self, text: str) -> "Encoding":
        return self.tokenizer.encode(text)

    @torch.no_grad()
    def _features(self, tokens: "Encoding") -> np.ndarray:
        ids = torch.tensor([tokens.ids])
        features = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return features[0].mean(0).double().cpu().numpy()


def load_text_encoder(folder: str) -> TextEncoder:
    """Return the encoder in a folder that `save_pretrained` wrote, with its tokenizer.

    Raises:
        InputError: If files are missing or damaged, weights are pickled, or the model is not known to transformers.
    """
    path = pathlib.Path(folder)
    if not path.is_dir():
        raise InputError("the folder of the text encoder", "none", "Put it back, or fit again", file=folder)
    for name in (CONFIG, TOKENIZER):
        if not (path / name).is_file():
            raise InputError(
                f"a folder of a transformers model and its tokenizer, with {name}",
                "none",
                "Write it with save_pretrained of the model and of its fast tokenizer",
                file=folder,
            )
    if not any(path.glob("*.safetensors")):
        is_pickled = any(file.suffix in PICKLED for file in path.iterdir())
        found, remedy = "pickled weights, which could execute code", "Write it again with save_pretrained"
        raise InputError("weights in .safetensors", found if is_pickled else "none", remedy, file=folder)
    files = (path / CONFIG, path / TOKENIZER, *sorted(path.glob("*.safetensors")))
    return _loaded(folder, digest_of(path, files))


@functools.lru_cache(maxsize=2)
def _loaded(folder: str, digest: str) -> TextEncoder:
    transformers, path = require_transformers(f"the text encoder {folder}", "encoders"), pathlib.Path(folder)
    from tokenizers import Tokenizer

    try:
        config, settings = _json(path / CONFIG), _json(path / "tokenizer_config.json")
        model_class = transformers.MODEL_MAPPING[transformers.CONFIG_MAPPING[config["model_type"]]]
        model = load_encoder(model_class, path, config, unused="pooler")
        network: Any = model.get_encoder() if config.get("is_encoder_decoder") else getattr(model, "text_model", model)
        lengths = (config.get("max_position_embeddings"), settings.get("model_max_length"), MAX_TOKENS)
        max_tokens = int(min(length for length in lengths if length))
        tokenizer = Tokenizer.from_file(str(path / TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        encoder = TextEncoder(network.eval().requires_grad_(False), tokenizer, max_tokens, digest)
        encoder.width  # noqa: B018 - fails for a model that is not one of texts
    except Exception as error:  # transformers and tokenizers raise many types
        found = message_of(error, 200)
        raise InputError("a text model that transformers loads without code of its own", found, file=folder) from error
    return encoder


def _json(file: pathlib.Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}
