"""The command line's dataset room: fetch pictures, look at a folder of them, tag it, edit captions, take that back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from .config import DatasetConfig, TagEdit
from .download.config import DownloadConfig
from .errors import ConfigError, RunError
from .flags import add_setting_flags
from .settings import from_json
from .tagging.config import TaggerConfig

MODELS = Path("~/.cache/lazylora/taggers")


def add_dataset_commands(commands: Any) -> None:
    """Add `download`, `report`, `tag` and `captions` to argparse's subcommands."""
    usage = "%(prog)s FOLDER --site NAME --tags TAGS [--limit N]"
    download = commands.add_parser(
        "download", help="pictures by their tags, through gallery-dl", allow_abbrev=False, usage=usage
    )
    download.add_argument("download_folder", type=Path, metavar="FOLDER", help="where they are put; it is made")
    download.add_argument("--gallery_config", type=Path, help="gallery-dl's settings, for sites that want a key")
    add_setting_flags(download, DownloadConfig)
    download.set_defaults(run=_download)

    usage = "%(prog)s FOLDER [--json FILE] [--picture FILE] [any dataset setting]"
    report = commands.add_parser("report", help="what deserves a look in a dataset", allow_abbrev=False, usage=usage)
    report.add_argument("dataset_folder", metavar="FOLDER", help="folder of pictures, or of N_name folders")
    report.add_argument("--json", type=Path, help="write the report here as JSON, too")
    report.add_argument("--picture", type=Path, help="draw the report here, too: PNG, JPEG or WebP")
    add_setting_flags(report, DatasetConfig)
    report.set_defaults(run=_report)

    usage = "%(prog)s FOLDER --tagger NAME [--write] [any tagger setting]"
    tag = commands.add_parser("tag", help="caption pictures with a WD tagger", allow_abbrev=False, usage=usage)
    tag.add_argument("dataset_folder", metavar="FOLDER", help="folder of pictures, or of N_name folders")
    _add_tagger(tag)
    tag.add_argument("--write", action="store_true", help="write the captions into their files; undo with captions")
    add_setting_flags(tag, TaggerConfig)
    tag.set_defaults(run=_tag)

    usage = "%(prog)s FOLDER [--edit OPERATION [TAGS [REPLACEMENT]]]… [--write | --undo | --history]"
    captions = commands.add_parser("captions", help="edit captions, with undo", allow_abbrev=False, usage=usage)
    captions.add_argument("dataset_folder", metavar="FOLDER", help="folder of pictures, or of N_name folders")
    captions.add_argument(
        "--edit",
        action="append",
        nargs="+",
        default=[],
        metavar="WORD",
        help='as in: --edit remove "blue eyes, halo" --edit rename cat lynx --edit drop_traits "1girl" 80',
    )
    captions.add_argument("--trigger_word", default="", help="put before every caption")
    captions.add_argument("--drop_category", action="append", default=[], help="remove such tags; needs --tagger")
    _add_tagger(captions)
    what = captions.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the edited captions into their files")
    what.add_argument("--undo", action="store_true", help="take the newest written change back")
    what.add_argument("--history", action="store_true", help="list the changes that can be taken back")
    captions.set_defaults(run=_captions)


def _add_tagger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tagger", default="", help="its folder, or a name such as SmilingWolf/wd-vit-tagger-v3")
    parser.add_argument("--models", type=Path, default=MODELS, help="where taggers are kept that are called by name")
    parser.add_argument("--download", action="store_true", help="fetch the tagger from Hugging Face if it is not there")


def _download(parsed: argparse.Namespace) -> None:
    from .download.gallery import download

    given = {key: value for key, value in vars(parsed).items() if key in DownloadConfig.__dataclass_fields__}
    config = from_json(DownloadConfig, given)
    count = 0
    for each in download(config, parsed.download_folder, parsed.gallery_config):
        count += each.path is not None
        print(f"{each.path.name}: {each.caption}" if each.path is not None else f"left out: {each.trouble}")
    print(f"{count} pictures downloaded into {parsed.download_folder}")


def _report(parsed: argparse.Namespace) -> None:
    from .doctor.picture import drawn
    from .doctor.report import examine
    from .doctor.words import described

    given = {key: value for key, value in vars(parsed).items() if key in DatasetConfig.__dataclass_fields__}
    examined = examine(from_json(DatasetConfig, {**given, "folder": parsed.dataset_folder}))
    print(described(examined.report))
    if parsed.json is not None:
        text = json.dumps(examined.report.to_json(), indent=2, ensure_ascii=False)
        _written(parsed.json, lambda: parsed.json.write_text(text + "\n", encoding="utf-8"))
    if parsed.picture is not None:
        _written(parsed.picture, lambda: drawn(examined).save(parsed.picture))


def _tag(parsed: argparse.Namespace) -> None:
    from tqdm import tqdm

    from .data.examples import scan
    from .tagging.autotag import autotag
    from .tagging.history import CaptionHistory
    from .tagging.tagger import Tagger

    names = {each.name for each in fields(TaggerConfig)}
    config = from_json(TaggerConfig, {key: value for key, value in vars(parsed).items() if key in names})
    dataset = scan(DatasetConfig(parsed.dataset_folder))
    tagger = Tagger(_model(parsed))
    captions = {}
    for each in tqdm(autotag(dataset.examples, tagger, config), total=len(dataset.examples), unit="picture"):
        if each.trouble:
            tqdm.write(each.trouble)
        else:
            captions[each.example] = each.caption
            tqdm.write(f"{each.example.name}: {each.caption}")
    if parsed.write:
        count = CaptionHistory(Path(parsed.dataset_folder)).write(captions, f"tagged by {parsed.tagger}")
        print(f"{count} caption files written; `captions {parsed.dataset_folder} --undo` takes it back")


def _captions(parsed: argparse.Namespace) -> None:
    from .data.captions import with_trigger
    from .data.edits import edited_captions
    from .data.examples import scan
    from .tagging.history import CaptionHistory

    history = CaptionHistory(Path(parsed.dataset_folder))
    if parsed.history:
        print("\n".join(f"{each.number}: {each.what} ({each.files} files)" for each in history.entries()) or "none")
        return
    if parsed.undo:
        undone = history.undo()
        if undone is None:
            print("nothing to undo")
            return
        print(f"undone: {undone.what} ({undone.files} files)")
        print("".join(f"left alone, as it was changed since: {name}\n" for name in undone.left_alone), end="")
        return
    dataset = scan(DatasetConfig(parsed.dataset_folder))
    before = [each.caption for each in dataset.examples]
    edits = [*_category_edits(parsed, before), *(_edit(words) for words in parsed.edit)]
    after = edited_captions(before, edits)
    if parsed.trigger_word.strip():
        after = [with_trigger(caption, parsed.trigger_word) for caption in after]
    changed = {each: new for each, old, new in zip(dataset.examples, before, after) if new != old}
    for example, caption in changed.items():
        print(f"{example.name}: {caption}")
    print(f"{len(changed)} of {len(before)} captions change")
    if parsed.write:
        words = [" ".join(each) for each in parsed.edit] + [f"without {each}" for each in parsed.drop_category]
        words += [f"trigger {parsed.trigger_word}"] if parsed.trigger_word.strip() else []
        print(f"{history.write(changed, '; '.join(words))} caption files written; --undo takes it back")


def _category_edits(parsed: argparse.Namespace, captions: list[str]) -> list[TagEdit]:
    from .tagging.categories import without_categories
    from .tagging.vocabulary import read_vocabulary

    if not parsed.drop_category:
        return []
    return [without_categories(captions, read_vocabulary(_model(parsed).tags), parsed.drop_category)]


def _model(parsed: argparse.Namespace) -> Any:
    from .tagging.model_files import find_model

    return find_model(parsed.tagger, parsed.models.expanduser(), parsed.download)


def _edit(words: list[str]) -> TagEdit:
    """`["rename", "a", "b"]` as an edit; the third word of drop_traits is its percentage."""
    names = ("operation", "tags", "percent" if words[0] == "drop_traits" else "replacement")
    if len(words) > len(names):
        raise ConfigError(f"--edit {' '.join(words)} has {len(words)} words; put quotes around tags")
    given: Mapping[str, Any] = dict(zip(names, words))
    return from_json(TagEdit, given, "edit.")


def _written(path: Path, write: Any) -> None:
    try:
        write()
    except (OSError, ValueError) as error:  # Pillow raises ValueError for a suffix that it does not know
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be written ({reason}); choose another place") from None
