"""Build the wheels of feller and of its reproductions twice, compare the bytes, and list what each needs beside it.

Usage: release_check.py FOLDER [--no-list]
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent


def epoch() -> str:
    """Return the time of the last commit, which is that of all files of the wheel."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return os.environ["SOURCE_DATE_EPOCH"]
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wheel(project: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Build the wheel of a project with what is installed."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch()},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return next(folder.glob("*.whl"))


def check(project: pathlib.Path, out: pathlib.Path, *, listed: bool) -> bool:
    """Compare two builds of a project, keep one, and list its parts; returns whether they are the same."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = wheel(project, pathlib.Path(one)), wheel(project, pathlib.Path(two))
        prints = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
        if prints[0] != prints[1] or first.name != second.name:
            print(f"two builds differ: {prints[0]} and {prints[1]}", file=sys.stderr)
            return False
        out.mkdir(parents=True, exist_ok=True)
        (out / first.name).write_bytes(first.read_bytes())
    print(f"{prints[0]}  {first.name}")
    if listed:
        place = out / f"{first.stem}.cdx.json"
        words = ["environment", sys.executable, "--pyproject", str(project / "pyproject.toml"), "--output-reproducible"]
        subprocess.run([sys.executable, "-m", "cyclonedx_py", *words, "-o", str(place)], check=True)
        print(place)
    return True


def main(out: pathlib.Path, *, listed: bool) -> int:
    """Check both projects."""
    same = [check(project, out, listed=listed) for project in (ROOT, ROOT / "papers")]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), listed="--no-list" not in sys.argv))
