"""Runs the checks of tests/hosts/contract inside A1111 or its stand-in, on the CPU and without its page.

Call: python a1111_contract.py A1111_DIR PACK FOLDER RESULTS [CHECK ...]. Checkpoints, LoRAs and pictures come to lie in
FOLDER. Every check gets a freshly loaded model and works on a thread of its own, as training does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_OPTIONS = "--use-cpu all --no-half --precision full --no-hashing --no-download-sd-model --skip-load-model-at-start"


def main(a1111: Path, pack: Path, folder: Path, results: Path, wanted: list[str]) -> None:
    """Run the wanted checks, each result a line of JSON in `results`."""
    boot(a1111, folder)
    sys.path.append(str(pack))
    from a1111_checkpoints import write_checkpoint
    from contract import kind_of, run_check, use
    from contract.in_a1111 import A1111

    use(A1111())
    for name in wanted or checks():
        path = folder / "checkpoints" / f"{kind_of(name)}.safetensors"
        if not path.exists():
            write_checkpoint(path.stem, path.parent)
        with results.open("a") as file:
            file.write(json.dumps(run_check(name, path)) + "\n")


def checks() -> list[str]:
    """The names of the checks that run here."""
    from contract import checks_in
    from contract.in_a1111 import REPLACED

    return [name for name in checks_in("A1111") if not name.startswith(tuple(f"{each}[" for each in REPLACED))]


def boot(a1111: Path, folder: Path) -> None:
    """All that A1111 does before it shows its page."""
    os.chdir(a1111)
    sys.path.insert(0, str(a1111))
    hub, checkpoints = folder / "hub", folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    os.environ.update(HUGGINGFACE_HUB_CACHE=str(hub), TRANSFORMERS_CACHE=str(hub), TRANSFORMERS_OFFLINE="1")
    sys.argv = ["webui.py", *_OPTIONS.split(), "--data-dir", str(folder), "--ckpt-dir", str(checkpoints)]
    from modules import initialize, script_callbacks

    initialize.imports()
    initialize.initialize()
    script_callbacks.before_ui_callback()  # there the Lora extension registers <lora:…>
    if (a1111 / "repositories").is_dir():
        from a1111_checkpoints import thin_open_clip, write_hub_cache

        write_hub_cache(hub)
        thin_open_clip()


if __name__ == "__main__":
    main(*(Path(each).absolute() for each in sys.argv[1:5]), sys.argv[5:])
