"""The readers of what comes from elsewhere, each with valid samples of what it reads."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer_core.config import DatasetConfig, TagEdit, TrainConfig
from trainer_core.data.caption_files import read_caption
from trainer_core.data.captions import prepared_caption, training_caption
from trainer_core.data.dataset_files import described_folders
from trainer_core.data.edits import edited_captions
from trainer_core.data.examples import Example
from trainer_core.data.spaced_tags import parted_at_spaces
from trainer_core.files.lora_file import load_lora, read_metadata
from trainer_core.optim.args import parse_optimizer_args
from trainer_core.recipes.reading import import_file
from trainer_core.settings import from_json, to_json
from trainer_core.studio.account import saved_curve
from trainer_core.studio.comparing import differences
from trainer_core.studio.runs import saved_runs
from trainer_core.tagging.history import CaptionHistory
from trainer_core.tagging.vocabulary import read_vocabulary

_GUIDES = Path(__file__).resolve().parents[1] / "recipes" / "guides"
_SETTINGS = TrainConfig(output_name="cat", output_dir="loras", dataset=DatasetConfig("pictures"))


@dataclass(frozen=True)
class Reader:
    """read: takes the fuzzed bytes and an empty folder. words: what means something in the format."""

    read: Callable[[bytes, Path], object]
    samples: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


def _captions(content: bytes, folder: Path) -> None:
    file = _written(folder / "a.txt", content)
    for all_lines in (False, True):
        caption = read_caption(file, all_lines).text
        config = DatasetConfig(
            str(folder),
            enable_wildcard=all_lines,
            shuffle_caption=True,
            keep_tokens_separator="|||",
            trigger_word="zwx",
        )
        example = Example(folder / "a.png", 2, caption, (64, 64), "0" * 64, "a")
        prepared_caption(caption, config)
        prepared_caption(parted_at_spaces(caption), config)
        training_caption(example, config, seed=1, epoch=2)
        words = caption[:40]
        for operation in ("remove", "append", "sort", "deduplicate", "drop_traits"):
            edited_captions([caption, "cat, hat"], [TagEdit(operation, words)], "|||")


def _patterns(content: bytes, folder: Path) -> None:
    pattern, _, replacement = content.decode("utf-8", "replace").partition("\n")
    edited_captions(["a cat, red hat, smile"], [TagEdit("regex", pattern, replacement)])


def _sidecar(content: bytes, folder: Path) -> None:
    read_caption(_written(folder / "a.json", content))


def _dataset_file(suffix: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> None:
        for name in ("pictures", "others"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "a.png").touch()
        described_folders(_written(folder / f"dataset{suffix}", content), DatasetConfig(str(folder)), [])

    return read


def _recipe(suffix: str) -> Callable[[bytes, Path], object]:
    return lambda content, folder: import_file(_written(folder / f"recipe{suffix}", content))


def _settings(content: bytes, folder: Path) -> None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return  # whoever calls from_json has parsed it, and found an object
    if isinstance(values, dict):
        from_json(TrainConfig, values)


def _header(content: bytes, folder: Path) -> None:
    """The bytes as the header of a LoRA file that is sound besides."""
    _lora(struct.pack("<Q", len(content)) + content + bytes(4), folder)


def _lora(content: bytes, folder: Path) -> None:
    file = _written(folder / "a.safetensors", content)
    try:
        import_file(file)
    finally:
        read_metadata(file)
        load_lora(file)


def _history(content: bytes, folder: Path) -> None:
    entry = folder / ".lazylora" / "captions" / "000001.json"
    entry.parent.mkdir(parents=True, exist_ok=True)
    _written(entry, content)
    CaptionHistory(folder).entries()
    CaptionHistory(folder).undo()


def _run_record(content: bytes, folder: Path) -> None:
    (folder / "cat").mkdir(exist_ok=True)
    _written(folder / "cat" / "run.json", content)
    for run in saved_runs([folder]):
        json.dumps([run.as_json(), run.prompts, differences(run, run)])
        run.config()


def _event_log(content: bytes, folder: Path) -> None:
    _written(folder / "events.jsonl", content)
    json.dumps(saved_curve(folder), allow_nan=False)


def _tag_list(suffix: str) -> Callable[[bytes, Path], object]:
    return lambda content, folder: read_vocabulary(_written(folder / f"tags{suffix}", content))


def _optimizer_args(content: bytes, folder: Path) -> None:
    parse_optimizer_args(content.decode("utf-8", "replace"))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _header_of(metadata: object) -> bytes:
    tensor = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    return json.dumps({"__metadata__": metadata, "lora_unet_a.alpha": tensor}).encode()


_SD_SCRIPTS = b"""
[model]
pretrained_model_name_or_path = "a.safetensors"
[network]
network_dim = 16
network_args = ["conv_dim=8", "algo=lokr", "factor=8"]
[optimizer]
optimizer_type = "Prodigy"
optimizer_args = ["decouple=True", "betas=0.9,0.99", "d_coef=2"]
learning_rate = 1
max_train_steps = 1600
"""
_DATASET = b"""
[general]
shuffle_caption = true
keep_tokens = 2
[[datasets]]
resolution = [512, 768]
batch_size = 2
  [[datasets.subsets]]
  image_dir = "pictures"
  num_repeats = 10
  class_tokens = "cat"
  caption_extension = ".txt"
  keep_tokens_separator = "|||"
  caption_dropout_rate = 0.1
  token_warmup_step = 100
  [[datasets.subsets]]
  metadata_file = "meta.json"
  image_dir = "others"
"""
_METADATA = b'{"pictures/a.png": {"caption": "a cat", "tags": "hat, tree", "train_resolution": [512, 512]}, "b": {}}'
_EASY = b"""self.args = {}
self.unet_dim = 16
self.optimizer_args = {"decouple": True, "betas": (0.9, 0.99)}
self.base_model: str = r"C:\\models\\a.safetensors"
"""
_SIDECARS = (
    b'{"tags_general": "hat blue_eyes", "tags_character": ["shiroko_(blue_archive)"], "rating": "g"}',
    b'[{"tag_string_general": "1girl solo", "tag_string": "1girl solo", "caption": "a girl"}]',
    b'{"tags": {"general": ["hat"], "artist": ["someone"]}, "prompt": "a cat"}',
)
_ENTRY = b'{"what": "removed hat", "when": 1.5, "files": {"a.txt": {"before": "cat, hat", "after": "cat"}}}'
_SS = {
    "ss_network_dim": "16",
    "ss_network_args": '{"conv_dim": "8", "algo": "lokr"}',
    "ss_optimizer": "prodigyopt.prodigy.Prodigy(decouple=True,betas=(0.9, 0.99),d_coef=2)",
    "ss_learning_rate": "1.0",
    "ss_num_epochs": "10",
    "ss_tag_frequency": '{"10_cat": {"cat": 10}}',
    "ss_datasets": '[{"resolution": [512, 512], "batch_size_per_device": 2}]',
}
_OWN = {"lazylora_settings": json.dumps(to_json(_SETTINGS)), "ss_network_dim": "8"}
_TOML_WORDS = (
    b"[[datasets]]",
    b"[general]",
    b"[a.b]",
    b" = ",
    b'"""',
    b"1979-05-27T07:32:00Z",
    b"true",
    b"inf",
    b"{ a = 1 }",
)
_JSON_WORDS = (
    b'"dataset"',
    b'"network"',
    b'"datasets"',
    b'"subsets"',
    b": ",
    b"true",
    b"//x",
    b"/*",
    b"{" * 50,
    b'"":',
)

READERS: dict[str, Reader] = {
    "captions": Reader(
        _captions,
        (
            b"zwx, a cat, hat ||| tree, {red|blue|2$$a|b} hat\nsecond line",
            "кот, шляпа".encode("utf-16"),
            b"((cat:1.2)), [x]",
        ),
        (b"|||", b"{a|b}", b"{", b"}", b"|", b"$$", b", ,", b"(", b":1.5)", b"\n", b"__x__"),
    ),
    "patterns": Reader(
        _patterns,
        (b"(red|blue) hat\n\\1 cap", b"^a (?P<what>\\w+)$\n\\g<what>", b"[a-z]{2,5}?\nx"),
        (b"(?P<a>", b"(?=", b"(?<=", b"\\1", b"\\g<", b"{3,2}", b"{1,99999}", b"[^", b"\\N{DASH}", b"(?i)", b"*+"),
    ),
    "sidecars": Reader(_sidecar, _SIDECARS, (b'"tags"', b'"caption"', b'"tag_string"', b": ", b"[[")),
    "dataset TOML": Reader(_dataset_file(".toml"), (_DATASET,), _TOML_WORDS),
    "dataset JSON": Reader(
        _dataset_file(".json"),
        (_METADATA, b'{"general": {}, "datasets": [{"subsets": [{"image_dir": "a", "num_repeats": 2}]}]}'),
        _JSON_WORDS,
    ),
    "recipe TOML": Reader(_recipe(".toml"), (_SD_SCRIPTS, _DATASET), _TOML_WORDS),
    "recipe JSON": Reader(
        _recipe(".json"),
        (*(path.read_bytes() for path in sorted(_GUIDES.iterdir())), json.dumps(to_json(_SETTINGS)).encode()),
        _JSON_WORDS,
    ),
    "recipe source": Reader(
        _recipe(".py"),
        (_EASY,),
        (b"self.", b"lambda: ", b"f'{x}'", b"(" * 90, b"**", b"\n  ", b"None", b"= -", b"10**9**9"),
    ),
    "settings": Reader(_settings, (json.dumps(to_json(_SETTINGS)).encode(), b'{"output_name": "a"}'), _JSON_WORDS),
    "LoRA metadata": Reader(
        _header,
        (_header_of(_SS), _header_of(_OWN)),
        (b'"__metadata__"', b'"ss_optimizer"', b"null", b"[1]", b": ", b'"__metadata__": [1], "x": '),
    ),
    "LoRA files": Reader(_lora, (struct.pack("<Q", len(_header_of(_SS))) + _header_of(_SS) + bytes(4),)),
    "caption history": Reader(
        _history, (_ENTRY,), (b'"files"', b'"before"', b'"../../a.txt"', b'"/etc/a.txt"', b"null")
    ),
    "run records": Reader(
        _run_record,
        (json.dumps({"key": "ab", "finished": ["cat-000001.safetensors"], "settings": to_json(_SETTINGS)}).encode(),),
        (*_JSON_WORDS, b'"key"', b'"settings"', b'"sample"', b'"prompts"', b'"finished"', b"null"),
    ),
    "event logs": Reader(
        _event_log,
        (
            b'{"event": "step", "step": 2, "epoch": 1, "loss": 0.1, "grad_norm": 1.0, "lr": {"unet": 1.0}, "d": null}\n'
            b'{"event": "spiked", "step": 2, "epoch": 1, "rise": 2.5}\n{"event": "turned_back", "step": 1}',
        ),
        (b'"event"', b'"step"', b'"lr"', b"NaN", b"Infinity", b"null", b"-1", b"1e999", b"[[", b"\n"),
    ),
    "tag lists CSV": Reader(
        _tag_list(".csv"), (b'tag_id,name,category,count\n1,hat,0,5\n2,"a, b",4,1\n',), (b'"', b",,", b"category")
    ),
    "tag lists JSON": Reader(
        _tag_list(".json"),
        (
            b'{"0": {"tag": "hat", "category": "General"}, "1": {"tag": "cat", "category": "Character"}}',
            b'{"idx_to_tag": {"0": "hat"}, "tag_to_category": {"hat": "General"}}',
        ),
        (b'"idx_to_tag"', b"{}", b"[1]", b"null"),
    ),
    "optimizer arguments": Reader(
        _optimizer_args,
        (b"decouple=True betas=0.9,0.99 d_coef=2", b'"eps=1e-8", weight_decay=(1,2)', b"k=-1"),
        (b"=", b"(" * 300, b"'", b"-" * 300, b"10**9", b"{1:", b"lambda", b"__"),
    ),
}
