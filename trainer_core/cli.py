"""The command line: the same trainer on diffusers, for machines without a UI."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .config import TrainConfig
from .errors import ConfigError, LazyLoraError
from .flags import add_setting_flags, merged, nested
from .settings import from_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code: 0, 1 for an error told in one sentence, 130 for Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except LazyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer_core", description="LazyLoRA: train a LoRA.")
    commands = parser.add_subparsers(required=True, metavar="command")

    usage = "%(prog)s --model MODEL --folder PICTURES --output_name NAME --output_dir FOLDER [any setting]"
    train = commands.add_parser("train", help="train a LoRA on a checkpoint", allow_abbrev=False, usage=usage)
    train.add_argument("--model", required=True, help="a .safetensors checkpoint or a diffusers folder")
    train.add_argument("--config", type=Path, help="a JSON file of settings; flags win over it")
    train.add_argument("--device", help="cuda, cpu …; the GPU where there is one")
    add_setting_flags(train)
    train.set_defaults(run=_train)

    demo = commands.add_parser("demo", help="train a drawn character on the embedded model and judge every epoch")
    demo.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for what the demo writes")
    demo.set_defaults(run=_demo)

    bench = commands.add_parser("bench", help="our loop against plain diffusers + peft, as JSON")
    bench.add_argument("--output", type=Path, help="write the JSON here, too")
    bench.add_argument("--rounds", type=int, default=5, help="interleaved rounds (medians are over these)")
    bench.set_defaults(run=_bench)
    return parser


def _train(parsed: argparse.Namespace) -> None:
    from .console import shown
    from .events import Finished
    from .hosts.diffusers import load_host
    from .train import train

    flags = {key: value for key, value in vars(parsed).items() if key not in ("model", "config", "device", "run")}
    config = from_json(TrainConfig, merged(_read_settings(parsed.config), nested(flags)))
    host = load_host(parsed.model, parsed.device)
    for event in shown(train(config, host)):
        if isinstance(event, Finished):
            print(f"finished: {event.folder}")


def _demo(parsed: argparse.Namespace) -> None:
    from .demo.run import run_demo

    run_demo(parsed.output)


def _bench(parsed: argparse.Namespace) -> None:
    from .bench.run import run_bench

    text = json.dumps(run_bench(parsed.rounds), indent=2)
    print(text)
    if parsed.output is not None:
        parsed.output.write_text(text + "\n", encoding="utf-8")


def _read_settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid JSON ({error}); correct it there") from None
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: holds no settings; write them as {{"network": {{"rank": 8}}, …}}')
    return values
