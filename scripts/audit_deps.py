"""Ask a public service for known weaknesses of what is installed here; where it cannot be reached, say so.

Exit status 0: none is known; 1: some are; 3: nobody could be asked.
"""

import subprocess
import sys

UNREACHABLE = (
    "ConnectionError",
    "Connection refused",
    "Max retries",
    "timed out",
    "Failed to resolve",
    "403",
    "502",
    "503",
)
"""What pip-audit says where it finds no service."""


def main() -> int:
    """Run pip-audit."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--timeout", "30"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        last = done.stderr.strip().splitlines()[-1]
        print(f"the service of pip-audit cannot be reached, so nothing is known: {last}", file=sys.stderr)
        return 3
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
