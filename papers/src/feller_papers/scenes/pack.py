"""Writer of the example file of feller, `data/examples/scenes.npz`.

Run `python -m feller_papers.scenes.pack FILE` to write it.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np
from jaxtyping import UInt8

from feller.core.rng import Rng
from feller_papers.scenes.documents import Answer, Break, Picture
from feller_papers.scenes.instructions import demonstration

PAIRS = 8000


def pack(out: pathlib.Path, n: int = PAIRS, seed: int = 0) -> None:
    """Write all documents: pictures as palette indices, and one JSON line per document."""
    demo = demonstration(n, Rng(seed).fold_in("demonstration"))
    pictures: list[UInt8[np.ndarray, "h w 3"]] = []
    names = {creature.name for creature in (*demo.head, *demo.tail)}
    lines = []
    for folder, documents in demo.documents.items():
        for document in documents:
            items: list[Any] = []
            for item in document.items:
                if isinstance(item, Picture):
                    items.append({"image": len(pictures)})
                    pictures.append(item.values)
                elif isinstance(item, Answer):
                    items.append({"answer": item.text})
                else:
                    items.append({"break": True} if isinstance(item, Break) else item)
            record = {"folder": folder, "document": items, **({"task": document.task} if document.task else {})}
            creature = names & set(document.text().split()[1:2])
            lines.append(json.dumps(record | ({"creature": creature.pop()} if creature else {}), ensure_ascii=False))
    stack = np.stack(pictures)
    palette, pixels = np.unique(stack.reshape(-1, 3), axis=0, return_inverse=True)
    text = np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)
    indices = pixels.astype(np.uint8).reshape(stack.shape[:3])
    np.savez_compressed(out, palette=palette, pixels=indices, documents=text)


if __name__ == "__main__":
    pack(pathlib.Path(sys.argv[1]))
