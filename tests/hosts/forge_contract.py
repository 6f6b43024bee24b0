"""Runs the checks of tests/hosts/contract inside a real Forge; test_forge_contract.py reads what they found.

Call: python forge_contract.py FORGE_DIR PACK DATA RESULTS [CHECK ...]. DATA is Forge's data directory, with the
checkpoints in it. Forge is started without its page. Every check gets a freshly loaded model, made in inference mode as
Forge makes it, and works on a thread of its own, as training does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(forge: Path, pack: Path, data: Path, results: Path, wanted: list[str]) -> None:
    """Run the wanted checks, each result a line of JSON in `results`."""
    boot(forge, data, ["--always-cpu", "--all-in-fp32"])
    sys.path.append(str(pack))
    from contract import checks_in, kind_of, run_check, use
    from contract.in_forge import Forge, with_thin_text_encoders

    with_thin_text_encoders()
    use(Forge())
    for name in wanted or checks_in("Forge"):
        path = data / "models" / "Stable-diffusion" / f"{kind_of(name)}.safetensors"
        with results.open("a") as file:
            file.write(json.dumps(run_check(name, path)) + "\n")


def boot(forge: Path, data: Path, options: list[str]) -> None:
    """All that Forge does before it shows its page. options: of its command line."""
    quiet = ["--skip-version-check", "--no-hashing", "--no-prompt-history", "--disable-console-progressbars"]
    sys.argv = ["launch.py", "--data-dir", str(data), "--no-download-sd-model", *quiet, *options]
    os.chdir(forge)
    sys.path.insert(0, str(forge))
    from modules_forge.initialization import initialize_forge

    initialize_forge()
    from modules import initialize

    initialize.imports()
    initialize.initialize()
    from modules import script_callbacks

    script_callbacks.before_ui_callback()  # registers `<lora:…>`


if __name__ == "__main__":
    main(*(Path(each).absolute() for each in sys.argv[1:5]), sys.argv[5:])
