"""Language models of transformers in feller's conventions: causal ones with a KV cache, and masked ones."""

import inspect
import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, message_of
from feller.core.pretrained_folder import config_without_code, require_transformers
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.text.pretrained_subwords import ordered_ids
from feller.models.pretrained.llada import LLADA, LLAMA
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.text_dit import check_text

CAUSAL = (
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
"""Known classes of language models that predict the next token."""
MASKED = ("BertForMaskedLM", "DistilBertForMaskedLM", "ModernBertForMaskedLM", LLADA)
"""Known classes of language models that predict masked tokens."""


@dataclass(frozen=True)
class TransformersNetwork(NetworkConfig):
    """Configuration of a language model of transformers, which is rebuilt from its own configuration.

    The state has the ids of `PretrainedSubwords`, which are those of the tokenizer with the `moved` ids at the end.
    """

    max_finetune_lr: ClassVar[float] = 1e-4
    class_name: str
    """Class in transformers, such as GPT2LMHeadModel, LlamaForCausalLM or BertForMaskedLM."""
    config: str
    """Content of its config.json; for LLaDA that of the Llama with its blocks."""
    moved: tuple[int, ...]
    """Ids in the tokenizer of the end token and, for masked language models, of the mask token."""
    before: tuple[int, ...]
    """Ids of the tokens that precede every text, such as the BOS token."""
    after: tuple[int, ...] = ()
    """Ids of the tokens that follow every text of a masked language model."""

    def __post_init__(self) -> None:
        if self.class_name not in (*CAUSAL, *MASKED):
            raise UsageError.unknown_name("class_name", self.class_name, (*CAUSAL, *MASKED))
        if self.is_causal and not self.before:
            raise UsageError(argument="before", expected="a token that precedes every text", found="none")

    @property
    def is_causal(self) -> bool:
        """True if the model predicts the next token, False if it predicts masked tokens."""
        return self.class_name in CAUSAL

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens of a text, without `before` and `after`; None if the model sets no limit."""
        limit = getattr(transformers_config(self.class_name, self.config), "max_position_embeddings", None)
        if limit is None:
            return None
        return limit - len(self.before) + 1 if self.is_causal else limit - len(self.before) - len(self.after)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "TransformersModule":
        check_text(self, shape)
        if conditions:
            raise UsageError(f"{self.class_name} has no conditions", ", ".join(conditions), "Write them into the texts")
        if self.max_length is not None and shape[0] > self.max_length:
            raise UsageError(f"texts of at most {self.max_length} tokens, the positions of the model", shape[0])
        with seeded_init(rng):
            module = CausalModule if self.is_causal else MaskedModule
            return module(self, *self.new_model())

    def new_model(self) -> tuple[nn.Module, int]:
        """Return a new model of transformers with its number of ids; call it within `seeded_init`."""
        config = transformers_config(self.class_name, self.config)
        try:
            return transformers_class(self.class_name)(config), config.vocab_size
        except InputError:
            raise
        except Exception as error:  # transformers raises many types
            found = message_of(error, 200)
            raise InputError(f"a configuration of {self.class_name}", found) from error


def transformers_class(name: str) -> Any:
    """Return a class of transformers, Llama for LLaDA; UsageError if transformers is not installed."""
    name = LLAMA if name == LLADA else name
    return getattr(require_transformers(f"{name} networks"), name)


def transformers_config(class_name: str, config: str) -> Any:
    """Return the configuration of a language model from the content of its config.json.

    Raises:
        InputError: If a setting has the wrong type.
    """
    try:
        return config_without_code(transformers_class(class_name), json.loads(config))
    except Exception as error:  # transformers raises many types
        found = message_of(error, 200)
        raise InputError(f"a configuration of {class_name}", found) from error


class TransformersModule(nn.Module):
    """Language model of transformers; subclasses arrange its inputs and outputs.

    It stays in eval mode, since its dropout would use the global random numbers of torch.
    """

    def __init__(self, config: TransformersNetwork, inner: nn.Module, num_ids: int) -> None:
        super().__init__()
        self.config = config
        self.inner: Any = inner.eval()
        self.null_values: dict[str, int | float] = {}
        order = ordered_ids(num_ids, config.moved)
        self.has_own_order = order != sorted(order)
        self.num_outputs = num_ids if config.is_causal else num_ids - 1
        first_names = {id(weight): name for name, weight in inner.named_parameters()}
        all_names = {name: first_names[id(weight)] for name, weight in inner.named_parameters(remove_duplicate=False)}
        self.tied = {name: first for name, first in all_names.items() if name != first}
        """Name of the weight of `inner` with which another one is tied; only the former is saved."""
        self.register_state_dict_post_hook(_leave_out_tied)
        self.register_load_state_dict_pre_hook(_fill_in_tied)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("before", torch.tensor(config.before, dtype=torch.long), persistent=False)
        self.register_buffer("after", torch.tensor(config.after, dtype=torch.long), persistent=False)

    def train(self, mode: bool = True) -> "TransformersModule":
        super().train(mode)
        self.inner.eval()
        return self

    def ordered_logits(self, logits: Float[Tensor, "*b ids"]) -> Float[Tensor, "*b K"]:
        """Return the logits of the tokens of the state, without that of the mask token."""
        logits = logits.index_select(-1, self.order[: self.num_outputs]) if self.has_own_order else logits
        return logits[..., : self.num_outputs]


def _leave_out_tied(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    assert isinstance(module, TransformersModule)
    for name in module.tied:
        state.pop(f"{prefix}inner.{name}", None)


def _fill_in_tied(module: nn.Module, state: dict[str, Any], prefix: str, *others: object) -> None:
    assert isinstance(module, TransformersModule)
    for name, first in module.tied.items():
        if f"{prefix}inner.{first}" in state:
            state.setdefault(f"{prefix}inner.{name}", state[f"{prefix}inner.{first}"])


def cache_argument(inner: nn.Module) -> str:
    """Return the name of the cache in the arguments of a model, which older versions of transformers call otherwise."""
    return "cache" if "cache" in inspect.signature(inner.forward).parameters else "past_key_values"


@dataclass(frozen=True, eq=False)
class TransformersCache:
    """KV cache of transformers; updates are in place, so only the most recently returned cache is valid."""

    past: Any
    length: int = 0
    """Number of tokens per sequence processed so far."""

    def select(self, index: Int[Tensor, " m"]) -> "TransformersCache":
        """Return the cache of the sequences with the indices `index`, in this order."""
        self.past.batch_select_indices(index)
        return self


class CausalModule(TransformersModule):
    """Causal language model: the logits at a position are those of the token there, given the tokens before it."""

    def __init__(self, config: TransformersNetwork, inner: nn.Module, num_ids: int) -> None:
        super().__init__(config, inner, num_ids)
        self.bos_token_id = num_ids
        """Token that stands for the tokens before every text."""
        self.cache_argument = cache_argument(inner)

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n K"]:
        ids = self._with_start(self.order[x_t[:, :-1]])
        logits = self.inner(input_ids=ids, use_cache=False).logits
        return self.ordered_logits(logits[:, len(self.before) - 1 :])

    def init_cache(self, batch_size: int, max_length: int) -> TransformersCache:
        """Return an empty cache, which grows."""
        transformers = require_transformers("the KV cache")
        return TransformersCache(transformers.DynamicCache(config=self.inner.config))

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b m"], cache: TransformersCache, cond: Cond
    ) -> tuple[Float[Tensor, "b K"], TransformersCache]:
        """Process the next tokens of each sequence; return the logits of the token after them and the new cache.

        The first token of a sequence is `bos_token_id`.
        """
        ids = self.order[tokens] if cache.length else self._with_start(self.order[tokens[:, 1:]])
        past = {self.cache_argument: cache.past}
        logits = self.inner(input_ids=ids, use_cache=True, logits_to_keep=1, **past).logits
        return self.ordered_logits(logits[:, -1]), replace(cache, length=cache.length + tokens.shape[1])

    def _with_start(self, ids: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        return torch.cat([self.before.expand(len(ids), -1), ids], 1)


class MaskedModule(TransformersModule):
    """Masked language model: logits of each token given the tokens that are not masked; the time is ignored."""

    def forward(self, x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b n K"]:
        before, after = (ids.expand(len(x_t), -1) for ids in (self.before, self.after))
        ids = torch.cat([before, self.order[x_t], after], 1)
        attend_to_all = {}
        if self.config.class_name == LLADA:  # as a causal model, Llama would add its own mask
            mask = torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1], dtype=self.inner.dtype, device=ids.device)
            attend_to_all = {"attention_mask": mask, "use_cache": False}
        logits = self.inner(input_ids=ids, **attend_to_all).logits
        return self.ordered_logits(logits[:, len(self.before) : len(self.before) + x_t.shape[1]])
