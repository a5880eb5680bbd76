"""Language models of transformers as models of table rows, which they read and write as texts."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import InputError, UsageError
from feller.core.pretrained_folder import require_transformers
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.text.pretrained_subwords import ordered_ids
from feller.models.pretrained.transformers_network import (
    TransformersModule,
    TransformersNetwork,
    cache_argument,
    transformers_config,
)
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.table_grammar import TableGrammar
from feller.spaces import TableTokens, TrieTokenizer

MAX_CALL_TOKENS = 2**14
"""Maximum number of subwords per network call without gradients."""


@dataclass(frozen=True)
class RowLanguageModel(NetworkConfig):
    """Autoregressive language model that models a table row as a text: for each column its prompt, then its value.

    The weights are those of the language model. The logits of a token are those of the next subword, for the subwords
    with which a value of the column can go on; prompts, and subwords without an alternative, are read only.

    Source: Borisov et al. 2023, "Language models are realistic tabular data generators", arXiv 2210.06280.
    """

    max_finetune_lr: ClassVar[float] = TransformersNetwork.max_finetune_lr
    language_model: TransformersNetwork
    space: TableTokens
    """Token space, whose columns are `TrieTokenizer`s of the subwords of the values."""
    prompts: tuple[tuple[int, ...], ...]
    """Subwords before the value of each column."""

    def __post_init__(self) -> None:
        if not self.language_model.is_causal:
            raise UsageError("a model that predicts the next token", self.language_model.class_name)
        columns = self.space.columns
        if not all(isinstance(column, TrieTokenizer) for column in columns):
            raise UsageError("columns with subwords", "other tokenizers", argument="space")
        if len(self.prompts) != len(columns) or not all(self.prompts):
            raise UsageError(f"{len(columns)} prompts of at least one subword", len(self.prompts), argument="prompts")
        ids = {*sum(self.prompts, ()), *(i for column in self.columns for values in column.sequences for i in values)}
        num_ids = int(transformers_config(self.language_model.class_name, self.language_model.config).vocab_size)
        if not 0 <= min(ids) <= max(ids) < num_ids:
            raise InputError(f"subwords with ids below {num_ids}", f"{min(ids)} to {max(ids)}")

    @property
    def columns(self) -> tuple[TrieTokenizer, ...]:
        """Tokenizers of the columns."""
        return tuple(column for column in self.space.columns if isinstance(column, TrieTokenizer))

    @property
    def column_lengths(self) -> tuple[tuple[int, int], ...]:
        """Number of subwords of the prompt, and of the longest value, of each column."""
        return tuple(
            (len(prompt), max(map(len, column.sequences)))
            for prompt, column in zip(self.prompts, self.columns, strict=True)
        )

    @property
    def row_length(self) -> int:
        """Number of subwords of the longest row, with those before it."""
        return len(self.language_model.before) + sum(map(sum, self.column_lengths))

    @property
    def max_row_length(self) -> int | None:
        """Number of subwords of which all are visible to the model; None if the model sets no limit."""
        config = transformers_config(self.language_model.class_name, self.language_model.config)
        limits = (getattr(config, name, None) for name in ("max_position_embeddings", "sliding_window"))
        return min((limit for limit in limits if limit is not None), default=None)

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "RowLanguageModule":
        if shape != (len(self.space.vocab_sizes),) or conditions:
            raise UsageError(f"rows of {len(self.space.vocab_sizes)} tokens and no conditions", shape)
        limit = self.max_row_length
        if limit is not None and self.row_length > limit:
            raise UsageError(f"rows of at most {limit} subwords, the positions of the model", self.row_length)
        with seeded_init(rng):
            return RowLanguageModule(self, *self.language_model.new_model())


@dataclass(frozen=True, eq=False)
class RowTextCache:
    """KV cache of rows that are generated column by column; updates are in place, so only the latest one is valid.

    Rows have different numbers of subwords. Each call processes as many as the row needs that needs most; the entries
    of other rows before theirs are not real, and are not attended to.
    """

    past: Any
    positions: Int64[Tensor, "b n"]
    """Position in the text of its row of each processed entry."""
    is_real: Bool[Tensor, "b n"]
    fed: Int64[Tensor, " b"]
    """Number of subwords of each row that have been processed."""
    codes: Int64[Tensor, "b columns"]
    """A value of each column that agrees with the tokens so far."""
    ranks: Int64[Tensor, "b columns"]
    """Place of each column in the order of its row; the number of columns if it has not been begun."""


class RowLanguageModule(TransformersModule):
    """Language model of table rows, configured by `RowLanguageModel`."""

    value_ids: Tensor
    """Ids of the subwords of each value of each column, [values, n]; -1 after a value."""
    value_starts: Tensor
    """Index of the first value of each column, [columns]."""
    slot_columns: Tensor
    """Column of each slot, [slots]; a column has slots for its prompt and its longest value."""
    value_offsets: Tensor
    """Index of each slot in the value of its column, [slots]."""
    prompt_ids: Tensor
    """Id of each slot of a prompt, [slots]."""
    is_prompt_slot: Tensor
    is_first_place: Tensor
    """True for the first token of each column, [places]."""
    read_slots: Tensor
    """Slot after which the subword is chosen that determines a token, by place and token before it in its column."""
    some_code: Tensor
    """Smallest code of each token, [places, tokens]."""
    output_ids: Tensor
    """Ids of the subwords that determine tokens."""
    subwords: Tensor
    """Index in `output_ids` of the subword that determines a token, [places, tokens]."""

    def __init__(self, config: RowLanguageModel, inner: nn.Module, num_ids: int) -> None:
        super().__init__(config.language_model, inner, num_ids)
        self.space = config.space
        self.rows_per_call = max(1, MAX_CALL_TOKENS // config.row_length)
        self.cache_argument = cache_argument(self.inner.base_model)
        with torch.device("cpu"):  # the grammar reads values of its tensors
            self.grammar = TableGrammar(config.space)
            order = torch.tensor(ordered_ids(num_ids, config.language_model.moved))
            tables = _text_tables(config, self.grammar.max_tokens, order)
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, x_t: Int64[Tensor, "b places"], t: Float[Tensor, " b"], cond: Cond
    ) -> Float[Tensor, "b *serialisations places tokens"]:
        """Return the logits at each position given the tokens before it, as those of `RowTransformerNetwork`.

        Args:
            x_t: Tokens of complete rows.
            t: Ignored.
            cond: Conditions; `order` is the column order of each row, [b, columns], or several orders per row, [b,
                orders, columns] (default: left to right).
        """
        order = cond.get("order")
        if order is None:
            return self._logits(x_t, None)
        x = x_t if order.ndim == 2 else x_t[:, None].expand(-1, order.shape[1], -1)
        return self._logits(x.flatten(0, -2), order.flatten(0, -2)).unflatten(0, x.shape[:-1])

    def _logits(
        self, x: Int64[Tensor, "b places"], order: Int64[Tensor, "b columns"] | None
    ) -> Float[Tensor, "b places tokens"]:
        if len(x) > self.rows_per_call and not torch.is_grad_enabled():
            orders = [None] * len(x) if order is None else order.split(self.rows_per_call)
            chunks = zip(x.split(self.rows_per_call), orders, strict=False)
            return torch.cat([self._logits(*chunk) for chunk in chunks])
        codes = x[:, self.grammar.code_place]
        ranks = torch.arange(codes.shape[1], device=x.device).expand(codes.shape) if order is None else order.argsort(1)
        ids, position_of_slot = self._text(codes, ranks)
        hidden = self.inner.base_model(input_ids=ids, use_cache=False).last_hidden_state
        before = F.pad(x[:, :-1], (1, 0)).masked_fill(self.is_first_place, 0)
        slots = self.read_slots[torch.arange(x.shape[1], device=x.device), before]
        reads = position_of_slot.gather(1, slots)
        hidden = hidden.gather(1, reads[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = self._subword_logits(hidden).gather(-1, self.subwords.expand(len(x), -1, -1))
        step = None if order is None else self.space.token_order(order).argsort(1)
        return logits.masked_fill(~self.grammar.allowed(x, step), -torch.inf)

    def _subword_logits(self, hidden: Float[Tensor, "*b d"]) -> Float[Tensor, "*b subwords"]:
        """Return the logits of the subwords that distinguish values, after the final hidden states."""
        head = self.inner.get_output_embeddings()
        return F.linear(hidden, head.weight[self.output_ids])

    def _text(
        self, codes: Int64[Tensor, "b columns"], ranks: Int64[Tensor, "b columns"]
    ) -> tuple[Int64[Tensor, "b n"], Int64[Tensor, "b slots"]]:
        """Return the ids of the texts of rows, padded at the end, and the position in the text of each slot.

        A column has slots for its prompt and its longest value; slots after a shorter value are at the end of the text.
        """
        values = self.value_ids[self.value_starts + codes]
        slot_ids = torch.where(self.is_prompt_slot, self.prompt_ids, values[:, self.slot_columns, self.value_offsets])
        num_slots = slot_ids.shape[1]
        keys = ranks[:, self.slot_columns] * num_slots + torch.arange(num_slots, device=codes.device)
        index = (keys + (slot_ids < 0) * num_slots * (codes.shape[1] + 1)).argsort(1)
        ids = torch.cat([self.before.expand(len(codes), -1), slot_ids.gather(1, index).clamp(min=0)], 1)
        return ids, index.argsort(1) + len(self.before)

    @torch.no_grad()
    def init_cache(self, batch_size: int) -> RowTextCache:
        """Return the cache of rows with no more than the ids before every text."""
        past, n = require_transformers("the KV cache").DynamicCache(), len(self.before)
        ids = self.before.expand(batch_size, -1)
        self.inner.base_model(input_ids=ids, use_cache=True, **{self.cache_argument: past})
        codes = ids.new_zeros(batch_size, len(self.space.columns))
        positions = torch.arange(n, device=ids.device).expand(batch_size, -1)
        fed = torch.full_like(codes[:, 0], n)
        return RowTextCache(
            past, positions, torch.ones_like(positions).bool(), fed, codes, codes + len(self.space.columns)
        )

    @torch.no_grad()
    def decode_step(
        self,
        last: Int64[Tensor, " b"] | None,
        last_place: Int64[Tensor, " b"] | None,
        place: Int64[Tensor, " b"],
        cache: RowTextCache,
    ) -> tuple[Float[Tensor, "b tokens"], RowTextCache]:
        """Process the previous token of each row; return the logits at position `place` and the new cache.

        The logits of invalid tokens are not masked.
        """
        column_of_place = torch.tensor(self.grammar.column_of_place, device=place.device)
        codes, column, state = cache.codes, column_of_place[place], torch.zeros_like(place)
        if last is not None and last_place is not None:
            codes = codes.scatter(1, column_of_place[last_place][:, None], self.some_code[last_place, last][:, None])
            state = torch.where(self.is_first_place[place], 0, last)
        num_begun = (cache.ranks < codes.shape[1]).sum(1)
        rank = cache.ranks.gather(1, column[:, None])[:, 0].minimum(num_begun)
        ranks = cache.ranks.scatter(1, column[:, None], rank[:, None])
        ids, position_of_slot = self._text(codes, ranks)
        end = position_of_slot.gather(1, self.read_slots[place, state][:, None])[:, 0] + 1
        end = torch.maximum(end, cache.fed)
        index = end[:, None] - torch.arange(int((end - cache.fed).max()), 0, -1, device=place.device)
        is_real, positions = index >= cache.fed[:, None], index.clamp(min=0)
        cache = replace(
            cache,
            positions=torch.cat([cache.positions, positions], 1),
            is_real=torch.cat([cache.is_real, is_real], 1),
            fed=end,
            codes=codes,
            ranks=ranks,
        )
        if not positions.shape[1]:  # every row has only one token here
            return self.output_ids.new_zeros(len(place), self.grammar.max_tokens, dtype=self.inner.dtype), cache
        is_visible = cache.is_real[:, None] & (cache.positions[:, None] <= positions[..., None])
        mask = torch.zeros(is_visible.shape, dtype=self.inner.dtype, device=place.device)
        hidden = self.inner.base_model(
            input_ids=ids.gather(1, positions),
            position_ids=positions,
            attention_mask=mask.masked_fill(~is_visible, torch.finfo(mask.dtype).min)[:, None],
            use_cache=True,
            **{self.cache_argument: cache.past},
        ).last_hidden_state[:, -1]
        return self._subword_logits(hidden).gather(-1, self.subwords[place]), cache


def _text_tables(config: RowLanguageModel, max_tokens: int, order: Tensor) -> dict[str, Tensor]:
    """Return the tables with which tokens become texts, and hidden states logits; `order` maps subwords to ids."""
    columns, lengths = config.columns, config.column_lengths
    longest, num_slots = max(length for _, length in lengths), sum(map(sum, lengths))
    values = [sequence for column in columns for sequence in column.sequences]
    value_ids = torch.full((len(values), longest), -1)
    for i, sequence in enumerate(values):
        value_ids[i, : len(sequence)] = order[list(sequence)]
    num_values = torch.tensor([column.num_values for column in columns])
    slot_columns, value_offsets, prompt_ids, is_prompt = (torch.zeros(num_slots, dtype=torch.long) for _ in range(4))
    places = sum(column.num_tokens for column in columns)
    read_slots, symbols, some_code = (torch.zeros(places, max_tokens, dtype=torch.long) for _ in range(3))
    is_first_place, place, slot = torch.zeros(places, dtype=torch.bool), 0, 0
    for j, (column, prompt, (num_prompt, num_value)) in enumerate(zip(columns, config.prompts, lengths, strict=True)):
        start = slot + num_prompt
        slot_columns[slot : start + num_value] = j
        prompt_ids[slot:start], is_prompt[slot:start] = order[list(prompt)], 1
        value_offsets[start : start + num_value] = torch.arange(num_value)
        slot, is_first_place[place] = start + num_value, True
        for level in column.levels:
            for group, (parent, position, code) in enumerate(
                zip(level.parents, level.positions, level.codes, strict=True)
            ):
                read_slots[place, parent] = start + position - 1
                symbols[place, group] = column.sequences[code][position]
                some_code[place, group] = code
            place += 1
    output_ids, subwords = order[symbols].unique(return_inverse=True)
    return {
        "value_ids": value_ids,
        "value_starts": num_values.cumsum(0) - num_values,
        "slot_columns": slot_columns,
        "value_offsets": value_offsets,
        "prompt_ids": prompt_ids,
        "is_prompt_slot": is_prompt.bool(),
        "is_first_place": is_first_place,
        "read_slots": read_slots,
        "some_code": some_code,
        "output_ids": output_ids,
        "subwords": subwords,
    }
