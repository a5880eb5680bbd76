"""Pictures from words: python -m benchmarks.captions --pictures FOLDER --out FOLDER [--minutes 60].

A model is fitted to nine tenths of captioned pictures. A judge, trained apart from it on the same pictures, finds the
caption of a picture among ten: for held-out pictures, which it has not seen either, and for pictures that the model
draws for captions it has seen and for held-out ones. Chance is 0.1.

The pictures are a folder with captions.csv, such as the emoji of the npm package emoji-datasource-twitter (MIT,
pictures CC-BY 4.0), on white, 32 x 32, with their names: --package FOLDER makes it of the unpacked package.
"""

import argparse
import hashlib
import itertools
import json
import math
import pathlib
import re
import shutil
import time

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import feller

CHOICES = 10
"""Number of captions among which the judge chooses."""
WIDTH = 96
"""Size of the embeddings of the judge."""
EPOCHS, BATCH = 60, 256
TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}


def make_pictures(package: pathlib.Path, out: pathlib.Path, side: int) -> None:
    """Write the emoji of an unpacked emoji-datasource-twitter on white, and their names into captions.csv."""
    rows = []
    for emoji in sorted(json.loads((package / "emoji.json").read_text()), key=lambda emoji: emoji["sort_order"]):
        name = (emoji["name"] or emoji["short_name"]).lower().replace("_", " ")
        variants = [(emoji, name)]
        for tones, variant in emoji.get("skin_variations", {}).items():
            tone = " and ".join(dict.fromkeys(TONES[key] for key in tones.split("-")))
            variants.append((variant, f"{name}, {tone} skin tone"))
        rows += [(variant["image"], caption) for variant, caption in variants if variant.get("has_img_twitter")]
    out.mkdir(parents=True)
    for file, _ in rows:
        picture = Image.open(package / "img" / "twitter" / "64" / file).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        white.convert("RGB").resize((side, side), Image.Resampling.BOX).save(out / file)
    pd.DataFrame(rows, columns=["file", "caption"]).to_csv(out / "captions.csv", index=False)


def split(pictures: pathlib.Path, out: pathlib.Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copy the pictures of nine tenths of the captions to `out`/train; return the training and the held-out rows."""
    table = pd.read_csv(pictures / "captions.csv")
    digits = table["caption"].map(lambda caption: int(hashlib.sha256(caption.encode()).hexdigest(), 16) % 10)
    train, held_out = table[digits > 0], table[digits == 0]
    if not (out / "train").is_dir():
        (out / "train").mkdir(parents=True)
        for file in train["file"]:
            shutil.copyfile(pictures / file, out / "train" / file)
        train[["file", "caption"]].to_csv(out / "train" / "captions.csv", index=False)
    return train, held_out


def pixels(folder: pathlib.Path, files: pd.Series) -> Tensor:
    """Return pictures as float32 [n, 3, h, w] from -1 to 1."""
    arrays = [np.asarray(Image.open(folder / file).convert("RGB")) for file in files]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


class Judge(nn.Module):
    """Contrastive judge: embeddings of pictures (a small CNN) and of captions (the mean of their words, and an MLP)."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.words = {word: i for i, word in enumerate(words)}
        sides = (3, 32, 64, 128)
        self.cnn = nn.Sequential(
            *(
                layer
                for a, b in itertools.pairwise(sides)
                for layer in (nn.Conv2d(a, b, 3, 1 if a == 3 else 2, 1), nn.BatchNorm2d(b), nn.SiLU(), nn.AvgPool2d(2))
            ),
            nn.Flatten(),
            nn.LazyLinear(WIDTH),
        )
        self.bag = nn.EmbeddingBag(len(words) + 1, WIDTH, mode="mean")
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def of_pictures(self, x: Tensor) -> Tensor:
        return F.normalize(self.cnn(x), dim=1)

    def of_captions(self, captions: list[str]) -> Tensor:
        bags = [[self.words.get(word, len(self.words)) for word in words_of(caption)] for caption in captions]
        starts = torch.tensor([0, *map(len, bags)]).cumsum(0)[:-1]
        h = self.bag(torch.tensor([word for bag in bags for word in bag]), starts)
        return F.normalize(h + self.mlp(h), dim=1)


def words_of(caption: str) -> list[str]:
    return re.findall(r"\w+", caption.lower()) or [""]


def augmented(x: Tensor, rng: torch.Generator) -> Tensor:
    """Shift pictures by up to 2 pixels, and add noise, so that the judge does not read single pixels."""
    dx, dy = (int(torch.randint(-2, 3, (), generator=rng)) for _ in range(2))
    x = torch.roll(x, (dy, dx), (2, 3))
    return x + 0.2 * torch.rand((len(x), 1, 1, 1), generator=rng) * torch.randn(x.shape, generator=rng)


def train_judge(x: Tensor, captions: list[str], seed: int) -> Judge:
    """Return a judge trained on pictures and captions by the symmetric contrastive loss of CLIP."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    judge = Judge(sorted({word for caption in captions for word in words_of(caption)}))
    judge.of_pictures(x[:2])
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.05)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=rng)[: len(x) // BATCH * BATCH].split(BATCH):
            pictures = judge.of_pictures(augmented(x[rows], rng))
            logits = judge.scale.exp() * pictures @ judge.of_captions([captions[i] for i in rows.tolist()]).T
            right = torch.arange(len(rows))
            loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def retrieval(judge: Judge, x: Tensor, captions: list[str], seed: int) -> float:
    """Return how often the right caption is the best of CHOICES: itself and others of `captions` drawn at random."""
    scores = judge.of_pictures(x) @ judge.of_captions(captions).T
    rng, hits = np.random.default_rng(seed), []
    for i, row in enumerate(scores):
        for _ in range(20):
            others = rng.choice(len(captions) - 1, CHOICES - 1, replace=False)
            hits.append(bool((row[i] > row[torch.from_numpy(others + (others >= i))]).all()))
    return float(np.mean(hits))


def drawn(run: pathlib.Path, captions: list[str], guidance: float, nfe: int, seed: int) -> Tensor:
    """Return a picture that the model draws for each caption."""
    samples = feller.sample(
        str(run), n=len(captions), given={"caption": captions}, guidance=guidance, seed=seed, nfe=nfe
    )
    return torch.from_numpy(samples.numpy()).permute(0, 3, 1, 2).float() / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--package", type=pathlib.Path, help="unpacked emoji-datasource-twitter, to make the pictures")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--run", type=pathlib.Path, help="fitted run (default: fit one)")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--size", default="small")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--nfe", type=int, default=32)
    parser.add_argument("-n", type=int, default=300, help="number of captions of each kind to draw")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.package is not None and not options.pictures.is_dir():
        make_pictures(options.package, options.pictures, options.side)
    train, held_out = split(options.pictures, options.out)
    run = options.run or options.out / "run"
    if not run.is_dir():
        start = time.process_time()
        feller.fit(
            str(options.out / "train"),
            out=str(run),
            condition=["caption"],
            size=options.size,
            minutes=options.minutes,
            fields={"train.precision": options.precision},
            seed=options.seed,
        )
        print(f"fitted in {(time.process_time() - start) / 60:.1f} minutes of the processor", flush=True)
    judge = train_judge(pixels(options.pictures, train["file"]), train["caption"].tolist(), options.seed)
    rows = {
        "held-out pictures": retrieval(judge, pixels(options.pictures, held_out["file"]), [*held_out["caption"]], 0)
    }
    for name, table in (("training", train), ("held-out", held_out)):
        captions = table["caption"].sample(min(options.n, len(table)), random_state=options.seed).tolist()
        x = drawn(run, captions, options.guidance, options.nfe, options.seed)
        rows[f"drawn for {name} captions"] = retrieval(judge, x, captions, 0)
    rows["chance"] = 1 / CHOICES
    for name, value in rows.items():
        print(f"{name:32} {value:.3f}", flush=True)


if __name__ == "__main__":
    main()
