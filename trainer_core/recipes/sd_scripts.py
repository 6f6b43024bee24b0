"""sd-scripts' own files: `--config_file` (TOML), `--dataset_config` (TOML or JSON), and command-line arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .given import Given, Recipe, is_off, is_unset
from .notation import NotTaken, pairs
from .report import INERT, UNSUPPORTED

# What train_network.py does with a file that does not say, where that is not what we do.
_DEFAULTS = {
    "network_module": "networks.lora",
    "network_dim": 4,
    "network_alpha": 1,
    "optimizer_type": "AdamW",
    "learning_rate": 2e-6,
    "lr_scheduler": "constant",
    "enable_bucket": False,
}
_DATASET_NAMES = {"batch_size": "train_batch_size", "image_dir": "train_data_dir"}
_DATASET_DEFAULTS = {"enable_bucket": False}
_PAIRED = ("network_args", "optimizer_args", "lr_scheduler_args")


def read_config(values: Mapping[str, Any]) -> Recipe:
    """A `--config_file`: sections only group, and what it does not say has sd-scripts' default."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= value if isinstance(value, Mapping) and key not in _PAIRED else {key: value}
    givens = [given for key, value in flat.items() for given in argument(key, value)]
    has_length = any(given.argument == "max_train_epochs" and not is_off(given.meaning) for given in givens)
    missing = _DEFAULTS if has_length else {**_DEFAULTS, "max_train_steps": 1600}
    return Recipe("sd-scripts TOML", (*givens, *defaults(missing, givens, "sd-scripts")))


def read_dataset(values: Mapping[str, Any]) -> Recipe:
    """A `--dataset_config`: `[general]` < `[[datasets]]` < `[[datasets.subsets]]`.

    One folder of pictures is trained on here (and one for regularisation), so of several only the first is taken."""
    datasets = [each for each in values.get("datasets", []) if isinstance(each, Mapping)]
    givens = [given for key, value in _mapping(values.get("general")).items() for given in _dataset_key(key, value)]
    for number, dataset in enumerate(datasets):
        where = "" if len(datasets) == 1 else f"datasets[{number}]."
        own = [given for key, value in dataset.items() if key != "subsets" for given in _dataset_key(key, value, where)]
        givens += own if not number else [_another(given, "dataset") for given in own]
        givens += _subsets(dataset.get("subsets", []), where, is_first=not number)
    others = [Given(key, each, key, each) for key, each in values.items() if key not in ("general", "datasets")]
    return Recipe("sd-scripts dataset config", (*givens, *others, *defaults(_DATASET_DEFAULTS, givens, "sd-scripts")))


def argument(key: str, value: Any, shown: str = "", why: str = "") -> Iterator[Given]:
    """One argument of sd-scripts as Givens: its `network_args` one by one, all others as they are.

    shown: how the key stands in the file, where that is not sd-scripts' name."""
    if key != "network_args" or is_unset(value):
        yield Given(shown or key, value, key, value, why)
        return
    try:
        found = pairs(value)
    except NotTaken as refusal:
        yield Given(shown or key, value, key, value, refusal.why, UNSUPPORTED)
        return
    for name, each in found.items():
        yield network_argument(name, each)


def network_argument(name: str, value: Any, shown: str = "") -> Given:
    """One of the network's own arguments, by LyCORIS' present name."""
    names = {"unit": "block_size", "use_cp": "use_tucker", "use_conv_cp": "use_tucker", "constrain": "constraint"}
    now = names.get(name, name)
    if now == "dropout":
        return Given(shown or f"network_args.{name}", value, "network_dropout", value)
    return Given(shown or f"network_args.{name}", value, f"network_args.{now}", value)


def command_line(words: Sequence[str]) -> Iterator[Given]:
    """Arguments as they are typed: `--flag`, `--name value`, `--name a=1 b=2`, `--name=value`."""
    known = [place for place, word in enumerate(words) if re.match(r"--\w", word)]
    for place, following in zip(known, [*known[1:], len(words)]):
        name, equals, value = words[place].removeprefix("--").partition("=")
        values = [value] if equals else list(words[place + 1 : following])
        meaning = True if not values else values if name in _PAIRED or len(values) > 1 else values[0]
        yield from argument(name, meaning, f"--{name}")
    for word in words[: known[0]] if known else words:
        yield Given(word, word, word, word, "stands where an argument is expected", UNSUPPORTED)


def defaults(known: Mapping[str, Any], givens: Sequence[Given], program: str) -> Iterator[Given]:
    """What the other program does where its file is silent and ours would do something else."""
    said = {given.argument for given in givens if not is_unset(given.meaning)}
    for name, value in known.items():
        if name not in said:
            yield Given(f"({name})", value, name, value, f"not in the file: {program}' default")


def _subsets(subsets: Any, where: str, is_first: bool) -> Iterator[Given]:
    trained = 0
    for number, subset in enumerate(each for each in subsets if isinstance(each, Mapping)):
        place = f"{where}subsets[{number}]." if where or len(subsets) > 1 else ""
        is_regularisation = subset.get("is_reg") is True
        for key, value in subset.items():
            for given in _dataset_key(key, value, place, is_regularisation):
                yield given if (is_first and not trained) or is_regularisation else _another(given, "subset")
        trained += not is_regularisation


def _dataset_key(key: str, value: Any, where: str = "", is_regularisation: bool = False) -> Iterator[Given]:
    shown = where + key
    if key == "is_reg":
        yield Given(shown, value, key, value, "said by which folder it is", INERT)
    elif key == "image_dir" and is_regularisation:
        yield Given(shown, value, "reg_data_dir", value)
    elif is_regularisation:
        yield Given(shown, value, key, value, "regularisation pictures are read like the others", INERT)
    elif key == "num_repeats" and str(value) == "1":
        yield Given(shown, value, key, value, "as a folder without a number", INERT)
    elif key in ("class_tokens", "caption_prefix"):
        yield Given(shown, value, key, value)
    else:
        yield from argument(_DATASET_NAMES.get(key, key), value, shown)


def _another(given: Given, thing: str) -> Given:
    why = f"one folder is trained on: this is another {thing}; put its pictures beside the first's, as N_name folders"
    return Given(given.key, given.value, given.argument, given.meaning, why, given.verdict or UNSUPPORTED)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
