"""Modality of documents: interleaved text and image tokens; balancing of tasks."""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, error_context
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.core.serialization import replace_file
from feller.data.documents.document_encoder import DocumentEncoder
from feller.data.documents.figure import MAX_DOCUMENTS, DocumentPart, draw_documents
from feller.data.documents.files import to_json, to_json_document, write_lines
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.token_layout import ANSWER_START as OPENED
from feller.data.documents.token_layout import (
    BREAK_MARK,
    IMAGE_MARK,
    PAD_MARK,
    as_array,
    encode_items,
    from_tokens,
    group_by_document,
    to_tokens,
    ungroup,
)
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.files import sample_folder
from feller.data.images.image_resizing import crop_and_resize, from_pixels, to_pixels
from feller.data.loading.raw import BreakItem, ImageItem, Item, RawDocuments, RawExamples, TextItem, expect
from feller.data.modality import Dataset, Modality, Writer
from feller.data.text.files import JSON_LINES_FILE
from feller.data.text.vocabulary import Vocabulary
from feller.spaces import Tokens


def balance_tasks(
    tasks: Int64[Tensor, " n"], rng: Rng, *, max_factor: float = 3.0, min_factor: float = 0.3
) -> Int64[Tensor, " m"]:
    """Return document indices in ascending order, with small tasks oversampled and large tasks undersampled.

    The sampling factor of a task is n / (number of tasks) / (size of the task), which would equalise all tasks, clamped
    to [min_factor, max_factor]. The number of documents per task is exact up to rounding; the documents of a task are
    chosen at random. Source: Yu et al. 2023, arXiv 2309.02591, section 4.

    Args:
        tasks: Task index of each document.
        rng: Random streams for the choice of documents.
        max_factor: Maximum sampling factor of a task, which limits oversampling.
        min_factor: Minimum sampling factor of a task, which limits undersampling.

    Raises:
        UsageError: If max_factor < 1, or min_factor is outside (0, 1].
    """
    if not 0 < min_factor <= 1 <= max_factor:
        raise UsageError("max_factor of at least 1 and min_factor in (0, 1]", f"{max_factor:g} and {min_factor:g}")
    task_ids, counts = tasks.unique(return_counts=True)
    keys = rng.stream("balance").uniform((len(tasks),), torch.float64, tasks.device)
    selected = []
    for task_id, count in zip(task_ids.tolist(), counts.tolist(), strict=True):
        factor = min(max_factor, max(min_factor, len(tasks) / len(task_ids) / count))
        members = (tasks == task_id).nonzero()[:, 0]
        repeats, remainder = divmod(max(1, round(factor * count)), count)
        extra = members[keys[members].argsort()[:remainder]]
        selected += [members.repeat(repeats), extra]
    return torch.cat(selected).sort().values if selected else tasks


BLOCK = 32
"""The context length is a multiple of this number of tokens."""
NUM_PRECEDING = 2
"""Number of preceding documents that fit into the default context in addition to the current document."""
CODES = "codes"
Values = dict[str, Tensor]
"""Values of documents, by key: `rows`, int64 [n, l], ids in the document layout; `pictures`, uint8 [n, most, c, h, w],
images in reading order, up to `most` per document; `task`, task index or -1, [n]. Samples and training data also have
`codes`, int64 [n, most, codes], the image codes: encoding the images again would take time, and could give different
codes."""


@dataclass(frozen=True)
class Documents(Modality):
    """Modality of interleaved texts and images; values are text token ids and pixels, states are rows of tokens."""

    has_vocabulary = True
    display_name = "documents"
    raw_type = RawDocuments
    has_density = False  # tokens are discrete

    vocabulary: Vocabulary
    height: int
    width: int
    channels: int
    """Number of image channels: 1 for greyscale, 3 for RGB."""
    context: int = 0
    """Context length in tokens, including preceding documents; 0 until the image tokenizer is known."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks of documents."""
    image_tokenizer: ImageTokenizer | None = None
    """Image tokenizer; None until it is fitted."""
    vectors: DocumentEncoder | None = None
    """Encoder that embeds documents for the retrieval of similar documents; None without retrieval."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or min(self.height, self.width) < 1:
            raise InputError("images with 1 or 3 channels", f"{self.height} x {self.width} x {self.channels}")

    @property
    def tokenizer(self) -> ImageTokenizer:
        """Image tokenizer of the modality; UsageError if it is not set."""
        if self.image_tokenizer is None:
            raise UsageError("these documents have no image tokenizer yet", remedy="Use --recipe interleaved")
        return self.image_tokenizer

    @property
    def symbols(self) -> DocumentVocabulary:
        """Token vocabulary of texts, image codes and structure."""
        rows, columns = self.tokenizer.grid
        return DocumentVocabulary(self.vocabulary.vocab_size, self.tokenizer.codebook_size, rows * columns)

    def with_image_tokenizer(self, tokenizer: ImageTokenizer, rows: Int64[Tensor, "n l"]) -> "Documents":
        """Return the modality with an image tokenizer, and a context that fits three documents of maximum length.

        Args:
            tokenizer: Fitted image tokenizer.
            rows: Documents of the training data as layout ids (text token ids, and a negative mark for each image),
                from which the maximum length is computed.
        """
        grid_rows, columns = tokenizer.grid
        is_image = rows == IMAGE_MARK
        max_length = int(((rows != PAD_MARK).sum(1) + is_image.sum(1) * (grid_rows * columns - 1)).max()) + 2
        return replace(self, image_tokenizer=tokenizer, context=-(-(NUM_PRECEDING + 1) * max_length // BLOCK) * BLOCK)

    @property
    def read_size(self) -> int:
        return max(self.height, self.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.height, self.width

    @property
    def aux_networks(self) -> dict[str, nn.Module]:
        modules = {
            "tokenizer": None if self.image_tokenizer is None else self.image_tokenizer.module,
            "vectors": None if self.vectors is None else self.vectors.module,
        }
        return {name: module for name, module in modules.items() if module is not None}

    @property
    def writers(self) -> dict[str, Writer]:
        """Writers by file suffix: JSON lines and images, arrays, JSON with tokens, or a folder with an overview."""
        return {
            ".jsonl": lambda values, given, out: self._lines(values, out, out.with_name(f"{out.stem}-pictures")),
            ".json": lambda values, given, out: replace_file(
                out, to_json(self._tokens(values), self.texts(values), self.symbols)
            ),
            ".npz": self._write_arrays,
            "": self._write_folder,
        }

    def space(self) -> Tokens:
        return Tokens(self.symbols.num_data_tokens, (self.context,))

    def num_entries(self, values: Values) -> Int64[Tensor, " n"]:
        return (self.encode(values) != self.symbols.pad).sum(1)

    def with_codes(self, values: Values) -> Values:
        """Return values with the image codes; codes are computed unless they are already present."""
        if CODES in values:
            return values
        return {**values, CODES: group_by_document(values["rows"], self.tokenizer.encode(all_pictures(values)))}

    def encode(self, values: Values) -> Int64[Tensor, "n l"]:
        """Convert documents to rows of tokens, each of which starts with `<eos>`; shorter rows are padded.

        Raises:
            InputError: If a document is too long for the context of the model.
        """
        rows = values["rows"]
        tokens = to_tokens(rows, ungroup(rows, self.with_codes(values)[CODES]), self.symbols)
        if tokens.shape[1] >= self.context:  # one place is needed for the closing <eos>
            max_length = int((tokens != self.symbols.pad).sum(1).max()) + 1
            raise InputError(
                f"documents of at most {self.context - 1} tokens, the context of the model",
                f"{max_length - 1}",
                "Shorten the document",
            )
        return tokens

    def decode(self, state: Int64[Tensor, "n l"]) -> Values:
        """Convert tokens to values with texts, images and image codes; InputError if `<mask>` or `<infill>` occurs."""
        rows, codes = from_tokens(state.cpu(), self.symbols)
        return {**self._values(rows, self.tokenizer.decode(codes)), CODES: group_by_document(rows, codes)}

    def _values(self, rows: Tensor, images: UInt8[Tensor, "m c h w"]) -> Values:
        """Return the values of documents with the given rows; `images` holds their images in reading order.

        A row contains text tokens, and marks for images and breaks.
        """
        return {"rows": rows, "pictures": group_by_document(rows, images), "task": torch.full((len(rows),), -1)}

    def items(self, values: Values) -> list[list[Item]]:
        """Return the texts and images of each document as items; `ImageItem.number` counts its images from 0."""
        return [self._items(row) for row in values["rows"].tolist()]

    def _items(self, row: list[int]) -> list[Item]:
        items: list[Item] = []
        token_ids: list[int] = []
        in_answer, after_break, num_images = False, False, 0

        def close() -> None:
            if token_ids:
                separator = [BreakItem()] if after_break and items and isinstance(items[-1], TextItem) else []
                items.extend([*separator, TextItem(self.vocabulary.decode(token_ids), is_answer=in_answer)])
                token_ids.clear()

        for token in row:
            if token >= 0:
                token_ids.append(token)
                continue
            close()
            in_answer, after_break = token == OPENED, token in (BREAK_MARK, IMAGE_MARK)
            if token == IMAGE_MARK:
                items.append(ImageItem(num_images))
                num_images += 1
        close()
        return items

    def values_from_raw(self, raw: RawExamples) -> tuple[Values, Cond]:
        raw = expect(raw, RawDocuments)
        images = self.resize_images(raw.images)
        documents = []
        for i, items in enumerate(raw.values):
            with error_context(**raw.error_fields(i)):
                documents.append(encode_items(items, self.vocabulary))
        image_index = [item.number for items in raw.values for item in items if isinstance(item, ImageItem)]
        values = self._values(as_array(documents), images[torch.tensor(image_index, dtype=torch.long)])
        task_ids = {name: i for i, name in enumerate(self.tasks)}
        tasks = [task_ids.get(name, -1) for name in raw.tasks] if raw.tasks else [-1] * len(documents)
        return {**values, "task": torch.tensor(tasks)}, {}

    def resize_images(self, pictures: UInt8[np.ndarray, "m h w c"]) -> UInt8[Tensor, "m channels height width"]:
        """Convert images to the size and colour mode of the model."""
        m, height, width, channels = pictures.shape
        if channels != self.channels:
            mode = "L" if self.channels == 1 else "RGB"
            pictures = np.stack([to_pixels(from_pixels(image).convert(mode)) for image in pictures]) if m else pictures
        if (height, width) != (self.height, self.width):
            size = (self.width, self.height)
            pictures = np.stack([to_pixels(crop_and_resize(from_pixels(image), size)) for image in pictures])
        return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())

    def class_index(self, key: str, text: str) -> int:
        raise UsageError("documents have no conditions", found=f"{key}={text}", remedy="Use --prompt")

    def arrays(self, values: Values, given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples`, JSON documents [n]; `tokens` [n, l]; `pictures` [n, most, h, w, c]."""
        return {
            "samples": np.array([json.dumps(to_json_document(items)) for items in self.items(values)], dtype=np.str_),
            "tokens": self.encode(values).numpy(),
            "pictures": values["pictures"].permute(0, 1, 3, 4, 2).numpy(),
        }

    def show(self, values: Values, given: Cond, columns: int | None = None) -> Image.Image:
        documents = []
        for items, images in zip(self.items(values)[:MAX_DOCUMENTS], values["pictures"], strict=False):
            documents.append(to_parts(items, images))
        return draw_documents(documents, columns)

    def image_values(self, values: Values) -> UInt8[Tensor, "m c h w"]:
        return all_pictures(values)

    def for_training(self, data: Dataset, rng: Rng) -> Dataset:
        """Return training data with tasks balanced by resampling; data without tasks are unchanged."""
        return data.subset(balance_tasks(data.values["task"], rng)) if self.tasks else data

    def texts(self, values: Values) -> list[str]:
        """Return the text of each document, without images."""
        return [
            " ".join(item.text for item in items if isinstance(item, TextItem)).strip() for items in self.items(values)
        ]

    def _lines(self, values: Values, out: pathlib.Path, folder: pathlib.Path) -> None:
        tasks = [self.tasks[task] if task >= 0 else "" for task in values["task"].tolist()]
        write_lines(self.items(values), values["pictures"], self._tokens(values), tasks, out, folder)

    def _tokens(self, values: Values) -> list[list[int]]:
        """Return the tokens of each document, without padding."""
        return [row[row != self.symbols.pad].tolist() for row in self.encode(values)]

    def _write_folder(self, values: Values, given: Cond, out: pathlib.Path) -> None:
        sample_folder.prepare(out)
        files = [f"{name}.png" for name in sample_folder.numbered_names(int((values["rows"] == IMAGE_MARK).sum()))]
        sample_folder.save_overview(self.show(values, given), out, [JSON_LINES_FILE, *files])
        self._lines(values, out / JSON_LINES_FILE, out)


def to_parts(items: Sequence[Item], pictures: UInt8[Tensor, "m c h w"]) -> list[DocumentPart]:
    """Return the texts and images of a document for display; answers are in brackets."""
    parts: list[DocumentPart] = []
    ends_in_text = False
    for item in items:
        if isinstance(item, TextItem):
            text = f"[{item.text}]" if item.is_answer else item.text
            previous = parts[-1] if ends_in_text else ""
            parts = [*parts[: len(parts) - ends_in_text], f"{previous}{text}"]
        elif isinstance(item, ImageItem):
            parts.append(pictures[item.number].permute(1, 2, 0).numpy())
        ends_in_text = isinstance(item, TextItem)
    return parts


def all_pictures(values: Values) -> UInt8[Tensor, "m c h w"]:
    """Return the images of all documents, in reading order."""
    return ungroup(values["rows"], values["pictures"])
