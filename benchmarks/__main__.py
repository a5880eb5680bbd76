"""make bench: prints a table, and writes the figures as JSON lines if a file is named."""

import json
import os
import pathlib
import sys
import warnings
from dataclasses import asdict

import torch

from benchmarks import (
    bridges,
    control,
    documents,
    geometry,
    learning,
    likelihood,
    privacy,
    products,
    solving,
    source,
    tokens,
    transport,
)
from benchmarks.importing import milliseconds
from benchmarks.timing import Row, measure, settle


def show(row: Row) -> str:
    others = "  ".join(f"{name} {row.milliseconds[name]:.4g} ms (x{ratio:.2f})" for name, ratio in row.ratios.items())
    limit = f"  allowed x{row.within:g} of the floor" if row.within else ""
    limit += f"  asked x{row.asked:g} of a peer" if row.asked < 1 else ""
    limit += f"  allowed {row.most:g} ms" if row.most else ""
    lines = [f"{'pass' if row.passed else 'FAIL'}  {row.name}: feller {row.ours:.4g} ms; {others}{limit}"]
    return "\n".join([*lines, f"      {row.note}"] if row.note else lines)


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    settle()
    print(f"torch {torch.__version__}, one thread, processor time, medians; x = feller over the other", flush=True)
    rows = []
    groups = [
        group
        for group in (
            *(solving, learning, transport, likelihood, geometry),
            *(tokens, documents, products, control, source, bridges, privacy),
        )
        if not sys.argv[1:] or group.__name__[11:] in sys.argv
    ]
    for group in groups:
        for case in group.cases():
            with torch.set_grad_enabled(group is learning):
                rows.append(measure(case))
            print(show(rows[-1]), flush=True)
    print("import on top of torch:", {name: f"{value:.0f} ms" for name, value in milliseconds().items()})
    if "FELLER_BENCH_OUT" in os.environ:
        text = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        pathlib.Path(os.environ["FELLER_BENCH_OUT"]).write_text(text)
    failed = [row.name for row in rows if not row.passed]
    print(f"{len(rows) - len(failed)} of {len(rows)} rows pass" + (f"; not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
