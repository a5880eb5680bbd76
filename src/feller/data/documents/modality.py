"""Modality of documents: interleaved text and image tokens; tasks can be balanced."""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.core.serialization import replace_file
from feller.data.documents.figure import MOST, Part, sheet
from feller.data.documents.files import plain, to_json, write_lines
from feller.data.documents.image_codes import PictureCodes
from feller.data.documents.token_layout import ANSWER as OPENED
from feller.data.documents.token_layout import (
    CUT,
    NOTHING,
    PICTURE,
    as_array,
    from_tokens,
    in_order,
    laid,
    placed,
    to_tokens,
)
from feller.data.documents.vectors import DocumentVectors
from feller.data.documents.vocabulary import Symbols
from feller.data.files import sample_folder
from feller.data.images.resize import fit, picture, pixels
from feller.data.loading.raw import Cut, Found, FoundDocuments, Item, Said, Shown, about, expect
from feller.data.modality import Dataset, Modality, Write
from feller.data.text.files import WHOLE
from feller.data.text.vocabulary import Vocabulary
from feller.spaces import Tokens


def balanced(tasks: Int64[Tensor, " n"], draws: Rng, *, most: float = 3.0, least: float = 0.3) -> Int64[Tensor, " m"]:
    """Return numbers of documents, in order, of which those of small tasks come again and some of large ones never.

    Each task comes n / tasks / (its documents) times as often as before, which would make all alike, but no more than
    `most` times and no less than `least`. How often a task comes is exact, up to rounding; which of its documents come
    once more is drawn, and which come at all. Source: Yu et al. 2023, arXiv 2309.02591, section 4.

    Args:
        tasks: Number of the task of each document.
        draws: Source of the choice.
        most: Factor by which a small task may grow.
        least: Factor to which a large task may shrink.

    Raises:
        UsageError: If the factors do not lie around 1.
    """
    if not 0 < least <= 1 <= most:
        raise UsageError("factors around 1, at least 1 and at most 1", f"{most:g} and {least:g}")
    names, counts = tasks.unique(return_counts=True)
    keys = draws.stream("balance").uniform((len(tasks),), torch.float64, tasks.device)
    found = []
    for name, count in zip(names.tolist(), counts.tolist(), strict=True):
        factor = min(most, max(least, len(tasks) / len(names) / count))
        which = (tasks == name).nonzero()[:, 0]
        times, more = divmod(max(1, round(factor * count)), count)
        once_more = which[keys[which].argsort()[:more]]
        found += [which.repeat(times), once_more]
    return torch.cat(found).sort().values if found else tasks


BLOCK = 32
"""The context is a multiple of it."""
IN_FRONT = 2
"""Documents that fit before one, in the usual context."""
CODES = "codes"
Values = dict[str, Tensor]
"""`rows`, int64 [n, l], as `layout` lays them; `pictures`, uint8 [n, most, c, h, w], in the order of reading; `task`,
the number of what each is an example of, -1 where that is not said, [n]. What was drawn, or is learned from, has
`codes` beside them, int64 [n, most, codes]: written again, its pictures would take as long, and might get others."""


@dataclass(frozen=True)
class Documents(Modality):
    """Values are texts as symbols of the vocabulary, and pictures in levels; states are rows of symbols of both."""

    worded = True
    called = "documents"
    holds = FoundDocuments
    has_density = False  # symbols have probabilities

    vocabulary: Vocabulary
    height: int
    width: int
    channels: int
    """1 for gray, 3 for RGB."""
    context: int = 0
    """Symbols that a model sees at once: those of a document, and of others in front of it; 0 until codes are known."""
    tasks: tuple[str, ...] = ()
    """What documents are examples of."""
    codes: PictureCodes | None = None
    """How pictures become symbols; None as long as nobody said."""
    vectors: DocumentVectors | None = None
    """What finds documents that are like one; None where nothing is looked for."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or min(self.height, self.width) < 1:
            raise InputError("pictures with 1 or 3 channels", f"{self.height} x {self.width} x {self.channels}")

    @property
    def tokenizer(self) -> PictureCodes:
        """How pictures become symbols; UsageError if nobody said."""
        if self.codes is None:
            raise UsageError(
                "these documents have no tokeniser for their pictures yet", remedy="Use --recipe interleaved"
            )
        return self.codes

    @property
    def symbols(self) -> Symbols:
        """The numbers of all symbols."""
        rows, columns = self.tokenizer.grid
        return Symbols(self.vocabulary.count, self.tokenizer.count, rows * columns)

    def tokenised(self, codes: PictureCodes, rows: Int64[Tensor, "n l"]) -> "Documents":
        """Return the modality with a tokeniser, and room for three of the longest of these documents."""
        grid_rows, columns = codes.grid
        shown = rows == PICTURE
        longest = int(((rows != NOTHING).sum(1) + shown.sum(1) * (grid_rows * columns - 1)).max()) + 2
        return replace(self, codes=codes, context=-(-(IN_FRONT + 1) * longest // BLOCK) * BLOCK)

    @property
    def read_size(self) -> int:
        """The longer side of pictures."""
        return max(self.height, self.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return self.channels, self.height, self.width

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The tokeniser, and what finds documents, where they are networks."""
        parts = {
            "tokenizer": None if self.codes is None else self.codes.module,
            "vectors": None if self.vectors is None else self.vectors.module,
        }
        return {name: module for name, module in parts.items() if module is not None}

    @property
    def forms(self) -> dict[str, Write]:
        """JSON lines with their pictures beside them, arrays, symbols as JSON, or a folder with all and an overview."""
        return {
            ".jsonl": lambda values, given, out: self._lines(values, out, out.with_name(f"{out.stem}-pictures")),
            ".json": lambda values, given, out: replace_file(
                out, to_json(self._tokens(values), self.texts(values), self.symbols)
            ),
            ".npz": self._write_arrays,
            "": self._write_folder,
        }

    def space(self) -> Tokens:
        """Return rows of symbols."""
        return Tokens(self.symbols.all, (self.context,))

    def counted(self, values: Values) -> Int64[Tensor, " n"]:
        """Count the symbols of each document."""
        return (self.encode(values) != self.symbols.pad).sum(1)

    def coded(self, values: Values) -> Values:
        """Return documents with the codes of their pictures, which they keep from then on."""
        if CODES in values:
            return values
        return {**values, CODES: placed(values["rows"], self.tokenizer.encode(all_pictures(values)))}

    def encode(self, values: Values) -> Int64[Tensor, "n l"]:
        """Turn texts and pictures into symbols, each row with `<eos>` in front."""
        rows = values["rows"]
        tokens = to_tokens(rows, in_order(rows, self.coded(values)[CODES]), self.symbols)
        if tokens.shape[1] >= self.context:  # an <eos> closes it
            longest = int((tokens != self.symbols.pad).sum(1).max()) + 1
            raise InputError(
                f"the longest document has {longest} symbols, and the model sees {self.context} at once",
                remedy="Shorten it",
            )
        return tokens

    def decode(self, state: Int64[Tensor, "n l"]) -> Values:
        """Turn symbols of documents without holes into texts and pictures, with the codes that these were."""
        rows, codes = from_tokens(state.cpu(), self.symbols)
        return {**self._values(rows, self.tokenizer.decode(codes)), CODES: placed(rows, codes)}

    def _values(self, rows: Tensor, pictures: UInt8[Tensor, "m c h w"]) -> Values:
        """Give each document its pictures, which come in the order of reading."""
        return {"rows": rows, "pictures": placed(rows, pictures), "task": torch.full((len(rows),), -1)}

    def items(self, values: Values) -> list[list[Item]]:
        """Return the texts and pictures of documents; `Shown` counts the pictures of its own document."""
        return [self._items(row) for row in values["rows"].tolist()]

    def _items(self, row: list[int]) -> list[Item]:
        items: list[Item] = []
        text: list[int] = []
        hidden, ended, shown = False, False, 0

        def close() -> None:
            if text:
                between = [Cut()] if ended and items and isinstance(items[-1], Said) else []
                items.extend([*between, Said(self.vocabulary.decode(text), hidden=hidden)])
                text.clear()

        for number in row:
            if number >= 0:
                text.append(number)
                continue
            close()
            hidden, ended = number == OPENED, number in (CUT, PICTURE)
            if number == PICTURE:
                items.append(Shown(shown))
                shown += 1
        close()
        return items

    def accept(self, found: Found) -> tuple[Values, Cond]:
        """Write texts with our symbols, and bring pictures to our size."""
        found = expect(found, FoundDocuments)
        pictures = self.bring(found.pictures)
        documents = []
        for i, items in enumerate(found.values):
            with about(**found.place(i)):
                documents.append(laid(items, self.vocabulary))
        shown = [item.number for items in found.values for item in items if isinstance(item, Shown)]
        values = self._values(as_array(documents), pictures[torch.tensor(shown, dtype=torch.long)])
        numbers = {name: i for i, name in enumerate(self.tasks)}
        tasks = [numbers.get(name, -1) for name in found.tasks] if found.tasks else [-1] * len(documents)
        return {**values, "task": torch.tensor(tasks)}, {}

    def bring(self, pictures: UInt8[np.ndarray, "m h w c"]) -> UInt8[Tensor, "m channels height width"]:
        """Bring pictures to our size and colours."""
        m, height, width, channels = pictures.shape
        if channels != self.channels:
            mode = "L" if self.channels == 1 else "RGB"
            pictures = np.stack([pixels(picture(one).convert(mode)) for one in pictures]) if m else pictures
        if (height, width) != (self.height, self.width):
            to = (self.width, self.height)
            pictures = np.stack([pixels(fit(picture(one), to)) for one in pictures])
        return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())

    def condition(self, key: str, text: str) -> int:
        """Refuse: what is given of a document is said in a prompt."""
        raise UsageError("documents have no conditions", found=f"{key}={text}", remedy="Say it with --prompt")

    def arrays(self, values: Values, given: Cond) -> dict[str, np.ndarray]:
        """Return `samples`, the documents as JSON [n], their `tokens` [n, l], and `pictures` [n, most, h, w, c]."""
        return {
            "samples": np.array([json.dumps(plain(items)) for items in self.items(values)], dtype=np.str_),
            "tokens": self.encode(values).numpy(),
            "pictures": values["pictures"].permute(0, 1, 3, 4, 2).numpy(),
        }

    def show(self, values: Values, given: Cond, columns: int | None = None) -> Image.Image:
        """Lay out the first documents, each with its texts and pictures in their order."""
        documents = []
        for items, pictures in zip(self.items(values)[:MOST], values["pictures"], strict=False):
            documents.append(seen(items, pictures))
        return sheet(documents, columns)

    def picture_values(self, values: Values) -> UInt8[Tensor, "m c h w"]:
        """Return those that are shown, in the order of reading."""
        return all_pictures(values)

    def for_learning(self, data: Dataset, draws: Rng) -> Dataset:
        """Return documents in which rare tasks come more often, and frequent ones less; as they are without tasks."""
        return data.subset(balanced(data.values["task"], draws)) if self.tasks else data

    def texts(self, values: Values) -> list[str]:
        """Return the words of each document, without its pictures."""
        return [" ".join(item.text for item in items if isinstance(item, Said)).strip() for items in self.items(values)]

    def _lines(self, values: Values, out: pathlib.Path, folder: pathlib.Path) -> None:
        tasks = [self.tasks[task] if task >= 0 else "" for task in values["task"].tolist()]
        write_lines(self.items(values), values["pictures"], self._tokens(values), tasks, out, folder)

    def _tokens(self, values: Values) -> list[list[int]]:
        """Return the symbols of each document, without padding."""
        return [row[row != self.symbols.pad].tolist() for row in self.encode(values)]

    def _write_folder(self, values: Values, given: Cond, out: pathlib.Path) -> None:
        sample_folder.prepare(out)
        files = [f"{name}.png" for name in sample_folder.numbers(int((values["rows"] == PICTURE).sum()))]
        sample_folder.save(self.show(values, given), out, [WHOLE, *files])
        self._lines(values, out / WHOLE, out)


def seen(items: Sequence[Item], pictures: UInt8[Tensor, "m c h w"]) -> list[Part]:
    """Return what people see of a document: words, of which answers stand in brackets, and pictures."""
    parts: list[Part] = []
    joined = False
    for item in items:
        if isinstance(item, Said):
            words = f"[{item.text}]" if item.hidden else item.text
            last = parts[-1] if joined else ""
            parts = [*parts[: len(parts) - joined], f"{last}{words}"]
        elif isinstance(item, Shown):
            parts.append(pictures[item.number].permute(1, 2, 0).numpy())
        joined = isinstance(item, Said)
    return parts


def all_pictures(values: Values) -> UInt8[Tensor, "m c h w"]:
    """Return the pictures that are shown, in the order of reading."""
    return in_order(values["rows"], values["pictures"])
