"""Constrained decoding of table rows: computation of masks of the tokens that can lead to a valid row."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.spaces.table_tokens import ColumnTokenizer, PairConstraint, TableTokens, Transitions
from feller.spaces.trie_tokenizer import TrieTokenizer


class TableGrammar(nn.Module):
    """Module that computes masks of the allowed tokens of a `TableTokens` space.

    Each column has an automaton, which accepts the token sequences of its values. Constraints between pairs of columns
    exclude combinations of values. Automata and constraints are module buffers.

    A token is allowed if at least one value of its column continues with this token and the remaining columns can still
    satisfy the constraints. The constraints form a forest, so the masks are computed in one pass to the roots and one
    pass back.
    """

    transitions: Tensor
    """Next state of the automaton by position, state and token, [positions, states, tokens]; -1 for a forbidden
    token. For a trie, only whether a token exists, in state 0."""
    parents: Tensor
    """For tries, the token before each token, [positions, tokens]; -1 if there is none, or for other columns."""
    tokens_of_codes: Tensor
    """Token by position and code, [positions, codes], for columns whose last token is the code."""

    def __init__(self, space: TableTokens) -> None:
        super().__init__()
        tables = [table for field in space.columns for table in _start_tables(field)]
        states, tokens = max(table.shape[0] for table in tables), max(space.vocab_sizes)
        transitions = torch.full((len(tables), states, tokens), -1, dtype=torch.long)
        for position, table in enumerate(tables):
            transitions[position, : table.shape[0], : table.shape[1]] = table
        self.register_buffer("transitions", transitions, persistent=False)
        parents, tokens_of_codes = torch.full((len(tables), tokens), -1), torch.arange(tokens).repeat(len(tables), 1)
        self.is_trie: list[bool] = []
        for field in space.columns:
            for level in field.levels if isinstance(field, TrieTokenizer) else ():
                position = len(self.is_trie)
                parents[position, : len(level.parents)] = torch.tensor(level.parents)
                tokens_of_codes[position, : len(level.group_of_code)] = torch.tensor(level.group_of_code)
                self.is_trie.append(True)
            self.is_trie += [False] * (0 if isinstance(field, TrieTokenizer) else field.num_tokens)
        self.register_buffer("parents", parents, persistent=False)
        self.register_buffer("tokens_of_codes", tokens_of_codes, persistent=False)
        is_start = torch.tensor([offset == 0 for num_tokens in space.tokens_per_column for offset in range(num_tokens)])
        self.starts_column: list[bool] = is_start.tolist()
        self.column_of_place: list[int] = [
            column for column, num_tokens in enumerate(space.tokens_per_column) for _ in range(num_tokens)
        ]
        self.first_place: list[int] = is_start.nonzero()[:, 0].tolist()
        """Position of the first token of each column."""
        self.code_place: list[int] = [
            first + (field.num_tokens - 1 if field.ends_in_code else 0)
            for first, field in zip(self.first_place, space.columns, strict=True)
        ]
        """Position of the token of each column that is its code, if there is one; else of the first token."""
        self.max_tokens = tokens
        self.rule_edges: list[tuple[int, int, str]] = []
        for index, rule in enumerate(_rules_towards_root(space)):
            name = f"rule_{index}"
            self.register_buffer(name, rule.allowed_mask(), persistent=False)
            self.rule_edges.append((rule.first, rule.second, name))
        self.constrained_columns = sorted(
            {column for first, second, _ in self.rule_edges for column in (first, second)}
        )

    def allowed(
        self, x: Int64[Tensor, "*b places"], step: Int64[Tensor, "*b places"] | None = None
    ) -> Bool[Tensor, "*b places tokens"]:
        """Return the mask of allowed tokens at each position, given the tokens generated before this position.

        Args:
            x: Tokens of rows.
            step: Zero-based step at which each position is generated (default: left to right).
        """
        automaton_mask = self._automaton_mask(x)
        if not self.constrained_columns:
            return automaton_mask
        step = torch.arange(x.shape[-1], device=x.device).expand(x.shape) if step is None else step
        codes, column_step = x[..., self.code_place], step[..., self.first_place]
        masks = [*automaton_mask.unbind(-2)]
        for column in self.constrained_columns:
            is_written = column_step < column_step[..., column, None]
            codes_mask = self.completable(codes, is_written)[..., column, :]
            for position in range(self.first_place[column], self.code_place[column] + 1):
                masks[position] = masks[position] & _any_code(codes_mask, self.tokens_of_codes[position])
        return torch.stack(masks, -2)

    def allowed_at(
        self,
        x: Int64[Tensor, "b places"],
        step: Int64[Tensor, "b places"],
        place: Int64[Tensor, " b"],
        observed: Bool[Tensor, "b places"] | None = None,
    ) -> Bool[Tensor, "b tokens"]:
        """Return the mask of allowed tokens at one position per row, given the tokens already generated or observed."""
        batch_index = torch.arange(x.shape[0], device=x.device)
        automaton_mask = (
            self.transitions[place, 0] >= 0 if all(self.starts_column) else self._automaton_mask(x)[batch_index, place]
        )
        if not self.constrained_columns:
            return automaton_mask
        column, column_step = torch.tensor(self.column_of_place, device=x.device)[place], step[:, self.first_place]
        is_written = column_step < column_step.gather(1, column[:, None])
        is_written = is_written if observed is None else is_written | observed[:, self.first_place]
        is_constrained = torch.isin(column, torch.tensor(self.constrained_columns, device=x.device))
        codes_mask = self.completable(x[:, self.code_place], is_written)[batch_index, column]
        return automaton_mask & (_any_code(codes_mask, self.tokens_of_codes[place]) | ~is_constrained[:, None])

    def _automaton_mask(self, x: Int64[Tensor, "*b places"]) -> Bool[Tensor, "*b places tokens"]:
        """Return the mask of tokens that continue a value of their column, given the tokens of x before them."""
        masks = []
        state = x.new_zeros(x.shape[:-1])
        for position, is_start in enumerate(self.starts_column):
            state = torch.zeros_like(state) if is_start else state
            if self.is_trie[position]:
                masks.append(self.parents[position] == state[..., None])
                state = x[..., position]
                continue
            next_states = self.transitions[position, state]
            masks.append(next_states >= 0)
            state = next_states.gather(-1, x[..., position, None])[..., 0].clamp(min=0)
        return torch.stack(masks, -2)

    def completable(
        self, codes: Int64[Tensor, "*b columns"], written: Bool[Tensor, "*b columns"]
    ) -> Bool[Tensor, "*b columns tokens"]:
        """Return the mask of values of each column that leave the undecided columns a way to satisfy the constraints.

        The mask is meaningful only for columns with constraints. The decided values must satisfy the constraints.

        Args:
            codes: Index of the value of each column; ignored where `written` is False.
            written: True for columns whose value is decided.
        """
        values = torch.arange(self.max_tokens, device=codes.device)
        in_vocab = self.transitions[self.code_place, 0] >= 0
        mask = in_vocab & (~written[..., None] | (values == codes[..., None]))
        for first, second, name in self.rule_edges:  # belief propagation: to the root, then back
            mask[..., first, :] &= self._propagate(mask[..., second, :], name, backward=True)
        for first, second, name in reversed(self.rule_edges):
            mask[..., second, :] &= self._propagate(mask[..., first, :], name, backward=False)
        return mask

    def _propagate(self, mask: Bool[Tensor, "*b tokens"], name: str, *, backward: bool) -> Bool[Tensor, "*b tokens"]:
        """Return the mask of the values of one column that occur together with an allowed value of another column.

        `name` is the buffer with the table of allowed pairs, and `backward` goes from its second column to its first.
        """
        table: Tensor = getattr(self, name)
        table = table.T if backward else table
        reachable = mask[..., : table.shape[0]].float() @ table.float() > 0
        return F.pad(reachable, (0, self.max_tokens - reachable.shape[-1]))


def _start_tables(field: ColumnTokenizer) -> list[Transitions]:
    """Return the automaton of a column; for a trie, whose states are its tokens, only the number of tokens."""
    if isinstance(field, TrieTokenizer):
        return [torch.zeros(1, size, dtype=torch.long) for size in field.vocab_sizes]
    return field.transitions()


def _any_code(mask: Bool[Tensor, "*b codes"], tokens: Int64[Tensor, "*#b codes"]) -> Bool[Tensor, "*b tokens"]:
    """Return the mask of the tokens of at least one code in a mask of codes; `tokens` holds the token of each code."""
    counts = mask.float()
    return torch.zeros_like(counts).scatter_add(-1, tokens.expand(counts.shape), counts) > 0


def _rules_towards_root(space: TableTokens) -> list[PairConstraint]:
    """Return the constraints ordered from the leaves to the roots of the forest, each from parent to child column."""
    neighbors: dict[int, list[PairConstraint]] = {}
    for rule in space.constraints:
        neighbors.setdefault(rule.first, []).append(rule)
        neighbors.setdefault(rule.second, []).append(rule.transposed())
    visited: set[int] = set()
    ordered: list[PairConstraint] = []
    for root in sorted(neighbors):
        queue = [] if root in visited else [root]
        visited.add(root)
        for column in queue:  # breadth-first search: the queue grows during the loop
            new_rules = [rule for rule in neighbors[column] if rule.second not in visited]
            ordered += new_rules
            queue += [rule.second for rule in new_rules]
            visited.update(rule.second for rule in new_rules)
    return ordered[::-1]
