"""Runs the checks of tests/hosts/contract inside a real ComfyUI; test_comfy_contract.py reads what they found.

Call: python comfy_contract.py COMFYUI_DIR PACK CHECKPOINTS RESULTS [CHECK ...]. Every check gets a freshly loaded
model, made in inference mode as nodes make it, and works on a thread of its own, as training does."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(comfy: Path, pack: Path, checkpoints: Path, results: Path, wanted: list[str]) -> None:
    """Run the wanted checks, each result a line of JSON in `results`."""
    # ComfyUI's folder first and the pack's last: both have a module called nodes
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, str(comfy))
    sys.path.append(str(pack))
    import comfy.options

    comfy.options.enable_args_parsing()
    from contract import checks_in, kind_of, run_check, use
    from contract.in_comfy import Comfy

    use(Comfy())
    for name in wanted or checks_in("ComfyUI"):
        with results.open("a") as file:
            file.write(json.dumps(run_check(name, checkpoints / f"{kind_of(name)}.safetensors")) + "\n")


if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:5]), sys.argv[5:])
