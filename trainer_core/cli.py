"""The command line: the same trainer on diffusers, for machines without a UI."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .config import TrainConfig, layered
from .dataset_commands import add_dataset_commands
from .errors import ConfigError, LazyLoraError, RunError
from .flags import add_setting_flags, nested
from .settings import all_settings, from_json, to_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code: 0, 1 for an error told in one sentence, 130 for Ctrl-C, 141 where whoever
    read what it prints has gone."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except LazyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `presets | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more on its way out
        return 141
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer_core", description="LazyLoRA: train a LoRA.")
    commands = parser.add_subparsers(required=True, metavar="command")

    usage = "%(prog)s --model MODEL --folder PICTURES --output_name NAME --output_dir FOLDER [any setting]"
    train = commands.add_parser("train", help="train a LoRA on a checkpoint", allow_abbrev=False, usage=usage)
    train.add_argument("--model", required=True, help="a .safetensors checkpoint or a diffusers folder")
    train.add_argument("--device", help="cuda, cpu …; the GPU where there is one")
    train.add_argument("--dry_run", action="store_true", help="say what would happen, and with which settings; no more")
    _add_settings(train)
    train.set_defaults(run=_train)

    read = commands.add_parser("import", help="other trainers' settings as ours, with a report on every key")
    read.add_argument("file", type=Path, help="of kohya's GUI, sd-scripts, easy-training, a guide; or any LoRA")
    read.add_argument("--skip", nargs="+", default=[], metavar="KEY", help="keys to leave out, by their name or ours")
    read.add_argument("--output", type=Path, help="write the settings here, for --config")
    read.set_defaults(run=_import)

    write = commands.add_parser("export", help="write settings without training", allow_abbrev=False)
    write.add_argument("--format", choices=("json", "sd-scripts", "kohya-gui"), default="json", help="whose settings")
    write.add_argument("--output", type=Path, help="write them here, not to the screen")
    _add_settings(write)
    write.set_defaults(run=_export)

    presets = commands.add_parser("presets", help="the guides' settings, with their sources")
    presets.add_argument("name", nargs="?", help="show this one")
    presets.set_defaults(run=_presets)

    usage = "%(prog)s FOLDER [--model MODEL] [any setting]"
    queue = commands.add_parser(
        "queue", help="train a folder of settings files in turn", allow_abbrev=False, usage=usage
    )
    queue.add_argument("queue_folder", type=Path, metavar="FOLDER", help="settings of any trainer, a file each")
    queue.add_argument("--model", default="", help="for all of them; else the one that each names")
    queue.add_argument("--device", help="cuda, cpu …; the GPU where there is one")
    add_setting_flags(queue)
    queue.set_defaults(run=_queue)

    convert = commands.add_parser("convert", help="a trained file in a form that more programs load")
    convert.add_argument("file", type=Path, help="a DyLoRA, or an (IA)³")
    convert.add_argument("output", type=Path, help="the new file")
    convert.add_argument("--rank", type=int, help="DyLoRA: cut the plain LoRA of this rank out of it")
    convert.add_argument(
        "--model", help="(IA)³: spell it out as differences of this model's weights, for any UI; large"
    )
    convert.set_defaults(run=_convert)

    add_dataset_commands(commands)

    page = commands.add_parser("ui", help="the tab of A1111 and Forge as a page of its own, in a browser")
    page.add_argument("--models", type=Path, help="folder of checkpoints and diffusers folders to choose from")
    page.add_argument("--model", type=Path, help="a checkpoint or diffusers folder, offered first")
    page.add_argument("--output", type=Path, default=Path("lazylora_runs"), help="where runs are made")
    page.add_argument("--port", type=int, default=7870, help="of this computer; 7870")
    page.add_argument(
        "--listen", metavar="NAME:PASSWORD", default="", help="let other computers in, too, that give these"
    )
    page.set_defaults(run=_ui)

    demo = commands.add_parser("demo", help="train a drawn character on the embedded model and judge every epoch")
    demo.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for what the demo writes")
    demo.set_defaults(run=_demo)

    experiments = commands.add_parser("experiments", help="try the guides' claims on the embedded model")
    experiments.add_argument("--work", type=Path, default=Path("experiments"), help="keeps each trial; goes on from it")
    experiments.add_argument("--docs", type=Path, help="where the page is written; docs/ of this repository")
    experiments.add_argument("--seeds", type=int, default=3, help="trainings of every arm")
    experiments.add_argument("--workers", type=int, default=2, help="trainings at once; the cores you can spare")
    experiments.set_defaults(run=_experiments)

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

    config = from_json(TrainConfig, _settings(parsed))
    if parsed.dry_run:
        _say_what_would_happen(config)
        return
    host = load_host(parsed.model, parsed.device)
    for event in shown(train(config, host)):
        if isinstance(event, Finished):
            print(f"finished: {event.folder}")


def _say_what_would_happen(config: TrainConfig) -> None:
    from .console import shown
    from .events import Planned, Warned
    from .plan import make_plan

    plan = make_plan(config)
    for _ in shown([Planned(plan), *(Warned(warning) for warning in plan.warnings)]):
        pass
    print(json.dumps(to_json(config), indent=2, ensure_ascii=False))


def _import(parsed: argparse.Namespace) -> None:
    from .recipes import import_file
    from .recipes.exporting import as_settings_json

    report = import_file(parsed.file, [key for word in parsed.skip for key in word.split(",")])
    print(report.as_text())
    if parsed.output is not None:
        _write(parsed.output, as_settings_json(report.values))


def _export(parsed: argparse.Namespace) -> None:
    from .recipes.exporting import EXPORTS
    from .recipes.own import checked_values

    text = EXPORTS[parsed.format](checked_values(_settings(parsed)))
    if parsed.output is None:
        print(text, end="")
    else:
        _write(parsed.output, text)


def _presets(parsed: argparse.Namespace) -> None:
    from .recipes.presets import PRESETS

    if parsed.name is None:
        print("\n".join(f"{name:14}{preset.when} ({preset.source}, {preset.date})" for name, preset in PRESETS))
        return
    preset = PRESETS.get(parsed.name)
    print("\n".join([f"{preset.title}: {preset.source}, {preset.date}", preset.when, *preset.notes, ""]))
    print(json.dumps(preset.values, indent=2, ensure_ascii=False))


def _queue(parsed: argparse.Namespace) -> None:
    from .console import shown
    from .hosts.diffusers import load_host
    from .queue import Ended, Started, not_taken_over, run_queue, settings_files

    files = settings_files(parsed.queue_folder)
    ended: list[Ended] = []
    steps = run_queue(files, _flags(parsed), parsed.model, lambda model: load_host(model, parsed.device))
    for event in shown(steps):
        if isinstance(event, Started):
            print(f"[{event.number}/{event.total}] {event.path.name}: {event.report.summary()}")
            print("".join(f"    {line}\n" for line in not_taken_over(event.report)), end="")
        elif isinstance(event, Ended):
            ended.append(event)
            print(f"{event.state}: {event.path.name}: {event.said}")
    failed = [each.path.name for each in ended if each.state == "failed"]
    if failed:
        raise RunError(f"{len(failed)} of {len(files)} failed: {', '.join(failed)}; the same command tries them again")


def _convert(parsed: argparse.Namespace) -> None:
    from .convert import cut_dylora, spell_out_ia3

    if (parsed.rank is None) == (parsed.model is None):
        raise ConfigError("say what it becomes: --rank for a DyLoRA, --model for an (IA)³")
    if parsed.rank is not None:
        cut_dylora(parsed.file, parsed.output, parsed.rank)
    else:
        from .hosts.diffusers import load_host

        host = load_host(parsed.model, "cpu")
        spell_out_ia3(parsed.file, parsed.output, host.components(), host.family)
    print(f"wrote {parsed.output} ({parsed.output.stat().st_size / 1e6:.1f} MB)")


def _ui(parsed: argparse.Namespace) -> None:
    from .standalone.page import serve

    serve(parsed.models, parsed.model, parsed.output, parsed.port, parsed.listen)


def _demo(parsed: argparse.Namespace) -> None:
    from .demo.run import run_demo

    run_demo(parsed.output)


def _experiments(parsed: argparse.Namespace) -> None:
    from .experiments.run import DOCS, run_experiments

    seeds = range(1, parsed.seeds + 1)
    print(run_experiments(parsed.work, parsed.docs or DOCS, seeds, parsed.workers))


def _bench(parsed: argparse.Namespace) -> None:
    from .bench.run import run_bench

    text = json.dumps(run_bench(parsed.rounds), indent=2)
    print(text)
    if parsed.output is not None:
        parsed.output.write_text(text + "\n", encoding="utf-8")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", help="begin with a guide's settings; `presets` lists them")
    parser.add_argument("--recipe", type=Path, help="another trainer's settings; they win over the preset")
    parser.add_argument("--config", type=Path, help="a JSON file of settings; they win over the recipe, flags over all")
    add_setting_flags(parser)


def _settings(parsed: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if parsed.preset is not None:
        from .recipes.presets import PRESETS

        values = PRESETS.get(parsed.preset).values
    if parsed.recipe is not None:
        from .recipes import import_file

        report = import_file(parsed.recipe)
        print(report.as_text(), file=sys.stderr)
        report.require_essentials()
        values = layered(values, report.values)
    return layered(values, _read_settings(parsed.config), _flags(parsed))


def _flags(parsed: argparse.Namespace) -> dict[str, Any]:
    known = {path for path, _ in all_settings(TrainConfig)}
    return nested({key: value for key, value in vars(parsed).items() if key in known})


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


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
