"""`python -m tests.fuzz [--seconds 60] [--seed 0] [reader …]`: feed each reader with nonsense for so long.

Prints a line for each reader, and what was found; inputs that broke one are kept. Exit code 1 where any did."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.run import fuzz


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feed the readers with nonsense.")
    parser.add_argument("readers", nargs="*", metavar="reader", help=f"all, or some of: {', '.join(READERS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where inputs that broke one are kept")
    chosen = parser.parse_args()
    if unknown := set(chosen.readers) - set(READERS):
        parser.error(f"no reader is called {', '.join(sorted(unknown))}")
    broken = False
    for name in chosen.readers or READERS:
        outcome = fuzz(READERS[name], chosen.seconds, chosen.seed)
        print(f"{name}: {outcome.tried} inputs, {outcome.refused} refused, slowest {outcome.slowest:.2f} s", flush=True)
        for number, finding in enumerate(outcome.findings):
            broken = True
            chosen.keep.mkdir(parents=True, exist_ok=True)
            file = chosen.keep / f"{re.sub(r'[^a-z]+', '-', name.lower())}-{number}"
            file.write_bytes(finding.content)
            print(f"  {finding.where}: {finding.what} ({file})\n{finding.trace}", flush=True)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
