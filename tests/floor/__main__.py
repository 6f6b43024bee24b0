"""Look the names up that the trainer uses in what is installed here, and write down those that are there:

    python -m tests.floor

For Python 3.10 with the versions of A1111 1.10 (CONTRIBUTING.md, "The floor"), where tests/floor/there.txt is from."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path

from tests.floor.names import PACKAGES, used_names

THERE = Path(__file__).parent / "there.txt"
_DISTRIBUTIONS = {"PIL": "pillow"}


def is_there(name: str) -> bool:
    """Whether a dotted name leads somewhere in the installed packages."""
    parts = name.split(".")
    found = importlib.import_module(parts[0])
    for end, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(parts[:end]))
            except ImportError:
                return False
    return True


def main() -> int:
    """Write the list; 1 if a name is missing."""
    versions = (f"{each} {importlib.metadata.version(_DISTRIBUTIONS.get(each, each))}" for each in PACKAGES)
    used = used_names()
    there = [name for name in sorted(used) if is_there(name)]
    header = f"# in Python {sys.version.split()[0]}, {', '.join(versions)}; by python -m tests.floor"
    THERE.write_text("\n".join([header, *there]) + "\n", encoding="utf-8")
    missing = sorted(set(used) - set(there))
    print(*(f"{used[name]}: there is no {name}" for name in missing), f"{len(there)} names are there", sep="\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
