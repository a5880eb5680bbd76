"""make bench: prints a table, and writes the figures into docs/reference/benchmarks.json and benchmarks.md.

python -m benchmarks [GROUP ...] runs some groups; the file keeps the others with the machine and date that they have.
python -m benchmarks --dry [GROUP ...] calls every peer once and writes nothing: their functions may change.
"""

import argparse
import importlib
import sys
import time
import warnings

import torch

from benchmarks import page, results
from benchmarks.timing import Row, measure, settle

GROUPS = (
    *("solving", "learning", "transport", "likelihood", "geometry", "tokens", "documents", "products"),
    *("control", "source", "bridges", "privacy", "streams", "tables"),
)
WITHOUT_PEERS = ("products", "control", "source", "bridges", "tables")
"""Groups that compare with bare loops only."""
IMPORTING = "importing"


def show(row: Row) -> str:
    others = "  ".join(f"{name} {row.milliseconds[name]:.4g} ms (x{ratio:.2f})" for name, ratio in row.ratios.items())
    limit = f"  allowed x{row.max_floor_ratio:g} of the floor" if row.max_floor_ratio else ""
    limit += f"  allowed x{row.max_peer_ratio:g} of a peer" if row.max_peer_ratio < 1 else ""
    limit += f"  allowed {row.max_milliseconds:g} ms" if row.max_milliseconds else ""
    lines = [f"{'pass' if row.passed else 'FAIL'}  {row.name}: feller {row.ours:.4g} ms; {others}{limit}"]
    return "\n".join([*lines, f"      {row.note}"] if row.note else lines)


def run(name: str) -> list[Row]:
    """Measure the cases of a group; its peers are imported here, so that another group does not need them."""
    group, rows = importlib.import_module(f"benchmarks.{name}"), []
    for case in group.cases():
        with torch.set_grad_enabled(name == "learning"):
            rows.append(measure(case))
        print(show(rows[-1]), flush=True)
    return rows


def rehearse(name: str) -> int:
    """Call the peers of the cases of a group once, and return the number of calls."""
    calls = 0
    with torch.set_grad_enabled(name == "learning"):
        for case in importlib.import_module(f"benchmarks.{name}").cases():
            for contender in list(case.contenders)[1:]:
                if not contender.startswith("floor"):
                    case.contenders[contender]()
                    calls += 1
    return calls


def imports() -> Row:
    """Measure how long importing takes, on top of torch."""
    times = importlib.import_module(f"benchmarks.{IMPORTING}").milliseconds()
    ours = next(iter(times.values()))
    note = ", ".join(f"{name} {other:.0f} ms" for name, other in list(times.items())[1:])
    row = Row("import on top of torch", {"feller": ours}, {}, None, 1.0, None, note, 3)  # without a limit
    print("import on top of torch:", {name: f"{value:.0f} ms" for name, value in times.items()})
    return row


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join((*GROUPS, IMPORTING))} [all]")
    parser.add_argument("--dry", action="store_true", help="call every peer once, without timing")
    options = parser.parse_args()
    groups = options.groups or (*GROUPS, IMPORTING)
    if unknown := set(groups) - {*GROUPS, IMPORTING}:
        parser.error(f"no group is called {', '.join(sorted(unknown))}; choose from {', '.join((*GROUPS, IMPORTING))}")
    if options.dry:
        for name in (name for name in GROUPS if name in groups and name not in WITHOUT_PEERS):
            begin = time.monotonic()
            print(f"{name}: {rehearse(name)} calls of peers in {time.monotonic() - begin:.1f} s", flush=True)
        return 0
    where = results.machine()
    settle()
    print(f"torch {torch.__version__}, one thread, processor time, medians; x = feller over the other", flush=True)
    rows = []
    for name in (name for name in (*GROUPS, IMPORTING) if name in groups):
        found = [imports()] if name == IMPORTING else run(name)
        results.record(name, [results.row_record(row) for row in found], where)
        rows += found
    page.write()
    failed = [row.name for row in rows if not row.passed]
    print(f"{len(rows) - len(failed)} of {len(rows)} rows pass" + (f"; not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
