"""Write pictures and captions of emoji, for `feller fit`, from two npm packages.

`python scripts/emoji_documents.py PACKAGES OUT` reads emoji-datasource-twitter (pictures by Twitter, CC BY 4.0)
and emojibase-data (names and keywords, MIT) in the folder PACKAGES, and writes the folders OUT/train and OUT/test.
"""

import argparse
import pathlib

from PIL import Image

from feller.core.rng import Rng
from feller_papers.beyond.emoji_pictures import emoji_documents, read_emoji
from feller_papers.scenes.documents import Document


def write_documents(documents: list[Document], out: pathlib.Path, prefix: str) -> None:
    """Write a picture and a caption of the same name for each document."""
    out.mkdir(parents=True, exist_ok=True)
    for i, document in enumerate(documents):
        Image.fromarray(document.pictures()[0]).save(out / f"{prefix}-{i}.png")
        (out / f"{prefix}-{i}.txt").write_text(document.text(), encoding="utf-8")


def main() -> None:
    """Write the documents of all emoji."""
    parser = argparse.ArgumentParser(description="Write documents of emoji.")
    parser.add_argument("packages", type=pathlib.Path, help="folder with the npm packages")
    parser.add_argument("out", type=pathlib.Path, help="folder to write")
    parser.add_argument("--side", type=int, default=32, help="side of the pictures, in pixels (32)")
    parser.add_argument("--emoji", type=int, default=10_000, help="largest number of emoji (all)")
    parser.add_argument("--variants", type=int, default=8, help="training documents of each emoji (8)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (0)")
    asked = parser.parse_args()
    rng, emoji = Rng(asked.seed), read_emoji(asked.packages, asked.emoji)
    for i, each in enumerate(emoji):
        for part, count in (("train", asked.variants), ("test", 1)):
            documents = emoji_documents(each, count, asked.side, rng.fold_in(part, i))
            write_documents(documents, asked.out / part, f"{i:04}")
    print(f"{len(emoji):,} emoji, {asked.variants:,} training documents and one held-out document of each")


if __name__ == "__main__":
    main()
