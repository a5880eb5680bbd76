"""A small file of every supported format, for tests that damage them."""

import gzip
import io
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import soundfile
from PIL import Image

from tests.data.crystals.test_cif import SALT
from tests.data.molecules.test_sdf import WATER


def _tier(name: str, *intervals: tuple[float, float, str]) -> str:
    head = f'    class = "IntervalTier"\n    name = "{name}"\n    xmin = 0\n    xmax = 0.3\n'
    parts = (
        f'    intervals [{i}]:\n        xmin = {start:g}\n        xmax = {end:g}\n        text = "{text}"\n'
        for i, (start, end, text) in enumerate(intervals, 1)
    )
    return f"{head}    intervals: size = {len(intervals)}\n{''.join(parts)}"


TEXTGRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 0.3\ntiers? <exists>\nsize = 2\nitem []:\n'
    + f"item [1]:\n{_tier('words', (0, 0.1, ''), (0.1, 0.3, 'go'))}"
    + f"item [2]:\n{_tier('phones', (0, 0.1, ''), (0.1, 0.2, 'G'), (0.2, 0.3, 'OW1'))}"
)
ALIGNED = {
    "file": "a.wav",
    "words": [["<sil>", 0, 10, [["SIL", 0, 10]]], ["go", 10, 20, [["G", 10, 10], ["OW", 20, 10]]]],
}
SCHEMA = {
    "unit": "row",
    "columns": {
        "age": {"kind": "numerical", "low": 0, "high": 99, "digits": False},
        "city": {"kind": "categorical", "values": ["Ulm", "Bonn"]},
        "member": {"kind": "boolean", "true": "yes", "false": "no"},
    },
    "rules": [{"if": {"city": ["Ulm"]}, "then": {"member": ["yes"]}}],
}
MOLECULES = "3\nmu=1.8\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n2\n\nH 0 0 0\nH 0 0 0.74\n"
TABLE = "age,city,income\n" + "".join(f"{20 + i},{('Ulm', 'Bonn')[i % 2]},{1000.5 * i:g}\n" for i in range(24))
POINTS = "x,y,label\n" + "".join(f"{i / 7:.3f},{i * i / 90:.3f},{'ab'[i % 2]}\n" for i in range(24))


@dataclass(frozen=True)
class Specimen:
    """A whole file, and what lies beside it."""

    name: str
    """Of the file that is damaged."""
    make: Callable[[], bytes]
    beside: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    source: str = ""
    """What is read, from the folder; by default the file."""

    def write(self, folder: pathlib.Path, content: bytes | None = None) -> pathlib.Path:
        """Write the file, or what became of it, into an empty folder, and return what is to be read."""
        for name, make in {self.name: self.make, **self.beside}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if name == self.name and content is not None else make())
        return folder / (self.source or self.name)


def _text(text: str) -> Callable[[], bytes]:
    return text.encode


def _lines(*entries: object) -> Callable[[], bytes]:
    return _text("".join(json.dumps(entry) + "\n" for entry in entries))


def _packed(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: gzip.compress(make(), mtime=0)


def _pixels(side: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)


def _picture(kind: str, mode: str = "RGB") -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        Image.fromarray(_pixels()).convert(mode).save(file, kind)
        return file.getvalue()

    return make


def _npz(**arrays: object) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})
        return file.getvalue()

    return make


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(24, dtype=np.float32).reshape(12, 2))
    return file.getvalue()


def _parquet() -> bytes:
    file = io.BytesIO()
    pd.read_csv(io.StringIO(TABLE)).to_parquet(file)
    return file.getvalue()


def _idx() -> bytes:
    return bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 6]) + bytes(i % 256 for i in range(4 * 36))


def _idx_labels() -> bytes:
    return bytes([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1])


def _sound(kind: str, subtype: str = "PCM_16", seconds: float = 0.3) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        samples = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * 8_000))
        soundfile.write(file, samples, 8_000, format=kind, subtype=subtype)
        return file.getvalue()

    return make


def _scan(packed: bool) -> Callable[[], bytes]:
    def make() -> bytes:
        import laspy

        scan = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
        scan.header.scales = np.array([0.01, 0.01, 0.01])
        scan.x, scan.y, scan.z = (np.arange(12) * step for step in (1.0, 0.5, 0.25))
        scan.classification = np.arange(12) % 2 + 1
        file = io.BytesIO()
        scan.write(file, do_compress=packed)
        return file.getvalue()

    return make


def _pdb() -> bytes:
    lines = []
    for i in range(12):
        for j, (name, element, at) in enumerate(
            (("N", "N", (0, 0, 0)), ("CA", "C", (1.46, 0, 0)), ("C", "C", (2.0, 1.42, 0)), ("O", "O", (1.3, 2.4, 0)))
        ):
            x, y, z = at[0] + 3.2 * i, at[1] + 1.9 * i, at[2]
            lines.append(
                f"ATOM  {4 * i + j + 1:5d}  {name:<3} ALA A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{0:6.2f}"
                f"          {element:>2}"
            )
    return ("\n".join([*lines, "TER", "END", ""])).encode()


def _chains() -> Callable[[], bytes]:
    atoms = {
        name: [[x + 3.2 * i, y + 1.9 * i, 0.0] for i in range(12)]
        for name, (x, y) in (("N", (0, 0)), ("CA", (1.46, 0)), ("C", (2.0, 1.42)), ("O", (1.3, 2.4)))
    }
    return _lines({"name": "1abc.A", "seq": "A" * 12, "coords": atoms})


_SPOKEN = {"a.wav": _sound("WAV"), "a.txt": _text("go"), "a.TextGrid": _text(TEXTGRID)}
_ELEMENT = np.array([[8, 1, 1]] * 3)
_PLACE = np.array([[[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]]] * 3)

DATA = {
    "png": Specimen("a.png", _picture("PNG")),
    "png with palette": Specimen("a.png", _picture("PNG", "P")),
    "jpg": Specimen("a.jpg", _picture("JPEG")),
    "bmp": Specimen("a.bmp", _picture("BMP")),
    "gif": Specimen("a.gif", _picture("GIF")),
    "webp": Specimen("a.webp", _picture("WEBP")),
    "tif": Specimen("a.tif", _picture("TIFF")),
    "folder of pictures": Specimen(
        "p/cat/a.png", _picture("PNG"), {"p/dog/b.png": _picture("PNG"), "p/dog/c.jpg": _picture("JPEG")}, "p"
    ),
    "idx": Specimen("train-images-idx3-ubyte", _idx, {"train-labels-idx1-ubyte": _idx_labels}),
    "idx.gz": Specimen("train-images-idx3-ubyte.gz", _packed(_idx), {"train-labels-idx1-ubyte": _idx_labels}),
    "idx labels": Specimen(
        "train-labels-idx1-ubyte", _idx_labels, {"train-images-idx3-ubyte": _idx}, "train-images-idx3-ubyte"
    ),
    "npy": Specimen("a.npy", _npy),
    "npz of points": Specimen("a.npz", _npz(samples=np.ones((4, 2)), labels=[0, 1, 0, 1], classes=["a", "b"])),
    "npz of pictures": Specimen("a.npz", _npz(samples=_pixels(6)[None].repeat(3, 0), labels=[0, 1, 0])),
    "npz of texts": Specimen("a.npz", _npz(samples=["one", "two", "three"])),
    "npz of a table": Specimen("a.npz", _npz(samples=[["1", "a"], ["2", "b"]], columns=["n", "w"])),
    "npz of molecules": Specimen("a.npz", _npz(element=_ELEMENT, place=_PLACE, valid=_ELEMENT > 0)),
    "npz of crystals": Specimen(
        "a.npz",
        _npz(
            element=[[11, 17]] * 2,
            place=[[[0.0, 0, 0], [0.5, 0.5, 0.5]]] * 2,
            lattice=[[4.0, 4, 4, 90, 90, 90]] * 2,
            valid=[[True, True]] * 2,
        ),
    ),
    "csv of points": Specimen("a.csv", _text(POINTS)),
    "csv of a table": Specimen("a.csv", _text(TABLE)),
    "csv.gz": Specimen("a.csv.gz", _packed(_text(TABLE))),
    "csv of texts": Specimen("a.csv", _text("text,label\n" + "one day,a\ntwo days,b\n" * 9)),
    "tsv": Specimen("a.tsv", _text(POINTS.replace(",", "\t"))),
    "parquet": Specimen("a.parquet", _parquet),
    "txt": Specimen("a.txt", _text("It was a bright cold day.\nThe clocks were striking.\n" * 6)),
    "txt.gz": Specimen("a.txt.gz", _packed(_text("It was a bright cold day.\n" * 9))),
    "jsonl of texts": Specimen("a.jsonl", _lines(*({"text": f"day {i}", "label": "ab"[i % 2]} for i in range(9)))),
    "jsonl.gz": Specimen("a.jsonl.gz", _packed(_lines(*({"text": f"day {i}"} for i in range(9))))),
    "jsonl of documents": Specimen(
        "d/a.jsonl",
        _lines({"document": ["a red one", {"image": "a.png"}]}, {"image": "b.png", "text": "a blue one"}),
        {"d/a.png": _picture("PNG"), "d/b.png": _picture("PNG")},
    ),
    "folder of captions": Specimen(
        "d/a.txt",
        _text("a red one"),
        {"d/a.png": _picture("PNG"), "d/b.png": _picture("PNG"), "d/b.txt": _text("b")},
        "d",
    ),
    "jsonl of chains": Specimen("a.jsonl", _chains()),
    "pdb": Specimen("1abc.pdb", _pdb),
    "cif": Specimen("a.cif", _text(SALT)),
    "csv of cif": Specimen("a.csv", _text('cif,label\n"' + SALT.replace('"', '""') + '",a\n')),
    "xyz": Specimen("a.xyz", _text(MOLECULES)),
    "xyz.gz": Specimen("a.xyz.gz", _packed(_text(MOLECULES))),
    "sdf": Specimen("a.sdf", _text(WATER * 2)),
    "las": Specimen("a.las", _scan(False)),
    "laz": Specimen("a.laz", _scan(True)),
    "wav": Specimen("s/a.wav", _sound("WAV"), {"s/a.txt": _text("go"), "s/a.TextGrid": _text(TEXTGRID)}, "s"),
    "wav of floats": Specimen(
        "s/a.wav", _sound("WAV", "FLOAT"), {"s/a.txt": _text("go"), "s/a.TextGrid": _text(TEXTGRID)}, "s"
    ),
    "flac": Specimen("s/a.flac", _sound("FLAC"), {"s/a.txt": _text("go"), "s/a.TextGrid": _text(TEXTGRID)}, "s"),
    "TextGrid": Specimen("s/a.TextGrid", _text(TEXTGRID), {"s/a.wav": _SPOKEN["a.wav"], "s/a.txt": _text("go")}, "s"),
    "alignments": Specimen(
        "s/alignments.jsonl", _lines(ALIGNED), {"s/a.wav": _SPOKEN["a.wav"], "s/a.txt": _text("go")}, "s"
    ),
    "lexicon": Specimen(
        "s/lexicon.txt",
        _text("go G OW\ngo(2) G OW W\nfeller F EH L ER\n"),
        {f"s/{name}": make for name, make in _SPOKEN.items()},
        "s",
    ),
    "metadata": Specimen(
        "s/metadata.csv",
        _text("a|go|go\n"),
        {"s/wavs/a.wav": _SPOKEN["a.wav"], "s/wavs/a.TextGrid": _text(TEXTGRID)},
        "s",
    ),
    "speakers": Specimen(
        "s/speakers.csv", _text("file,speaker\na.wav,ann\n"), {f"s/{name}": make for name, make in _SPOKEN.items()}, "s"
    ),
}
"""What `feller.data.loading.dataset_reader` reads."""
