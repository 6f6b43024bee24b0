"""The same thing in sd-scripts' notation and in ours: sizes, lengths of warm-up, lists of `key=value`, precisions."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

from ..optim.args import parse_optimizer_args
from .report import INERT, UNSUPPORTED

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class NotTaken(Exception):
    """A value that does not become a setting: the verdict and why."""

    def __init__(self, verdict: str, why: str):
        super().__init__(why)
        self.verdict, self.why = verdict, why


def number(value: Any) -> Any:
    """A number that stands there as text, as the number that it is; anything else as it is."""
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        return value
    return float(text) if set(text) & set(".eE") else int(text)


def same(value: Any) -> Any:
    """Nothing to do: the same value in both programs."""
    return value


def as_text(value: Any) -> str:
    """A list or a number as the text that our setting takes: `[4, 8]` → `4,8`."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def pairs(value: Any) -> dict[str, Any]:
    r"""Any of the ways in which these programs write arguments, as a dictionary of texts.

    `["d_coef=1.0", "betas=0.9,0.99"]`, `{"d_coef": 1.0}`, `"\"d_coef=1.0\" \"decouple=True\""`, `{"d_coef": "1.0"}` as
    JSON text. Raises NotTaken for text that is none of them."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            return pairs(ast.literal_eval(value.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    words = value if isinstance(value, (list, tuple)) else str(value).replace('"', " ").replace("'", " ").split()
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = str(word).strip().strip("\"'").partition("=")
        if not equals:
            raise NotTaken(UNSUPPORTED, f'"{word}" is not key=value')
        found[key.strip()] = text.strip().rstrip(",").strip("\"'")
    return found


def arguments_text(value: Any) -> str:
    """Optimizer or scheduler arguments as our one line, `weight_decay=0.01 betas=0.9,0.99`; T_max may be `total`."""
    text = " ".join(f"{key}={_literal(each)}" for key, each in pairs(value).items())
    parse_optimizer_args(text.replace("=total", "=0"))  # a ConfigError says what is wrong with it
    return text


def arguments_list(text: str) -> list[str]:
    """Our one line of arguments as sd-scripts' list: `["weight_decay=0.01", "betas=0.9,0.99"]`."""
    return [f"{key}={_literal(value)}" for key, value in parse_optimizer_args(text).items()]


def side(value: Any) -> int:
    """A training size as one side: `512`, `"512,512"`, `"(768, 512)"` or `[768, 512]`; other shapes by their area."""
    numbers = [int(float(each)) for each in re.findall(r"\d+(?:\.\d+)?", str(value))]
    if not 1 <= len(numbers) <= 2:
        raise NotTaken(UNSUPPORTED, "is no size; write 512, or 512,768")
    return round(math.sqrt(numbers[0] * numbers[-1]))


def warm_up(value: Any) -> str:
    """A warm-up as sd-scripts writes it, in our notation: 100 → `100` steps, 0.1 → `10%`."""
    given = number(value)
    if isinstance(given, str):
        return given.strip()
    if isinstance(given, float) and 0 < given < 1:
        return share(given)
    return str(int(given)) if given == int(given) else str(given)


def warm_up_for_kohya(text: str) -> int | float:
    """Our warm-up as sd-scripts takes it from a file: steps as a whole number, a share as a fraction."""
    stripped = text.strip()
    if stripped.endswith("%"):
        return float(stripped[:-1]) / 100
    return number(stripped)


def share(part: float) -> str:
    """A share as a percentage, which cannot be mistaken for steps: 0.1 → `10%`."""
    return f"{part * 100:.10g}%" if part else "0"


def learning_rate(value: Any) -> Any:
    """A rate that may stand there once for each text encoder."""
    if not isinstance(value, (list, tuple)):
        return value
    if len(set(map(float, value))) > 1:
        raise NotTaken(UNSUPPORTED, "the text encoders share one rate here")
    return value[0]


def precision(value: Any) -> str:
    """kohya's words for number formats in ours."""
    return {"no": "fp32", "float": "fp32", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(
        str(value).lower(), str(value).lower()
    )


def mixed_precision_for_kohya(value: str) -> str | None:
    """Our word for the forward pass' number format; kohya has none for leaving it to the device."""
    return {"auto": None, "fp32": "no"}.get(value, value)


def save_precision_for_kohya(value: str) -> str:
    """Our word for the files' number format."""
    return "float" if value == "fp32" else value


def side_for_kohya(value: int) -> str:
    """sd-scripts wants both sides, as text."""
    return f"{value},{value}"


def tokens_for_kohya(value: int) -> int | None:
    """75 is what sd-scripts does when it is told nothing, and refuses to be told."""
    return None if value == 75 else value


def logger_for_kohya(value: str) -> str | None:
    """Whom to log with; nobody is said by silence."""
    return None if value == "none" else value


def is_velocity(value: Any) -> str:
    """`v_parameterization` as our prediction type; without it the checkpoint says."""
    if not truth(value):
        raise NotTaken(INERT, "the checkpoint says what it predicts")
    return "v_prediction"


def magnitudes_on_input(_: Any) -> bool:
    """DoRA's wd_on_output: off whatever it says, as every UI loads the other wrong."""
    return False


def inverted(value: Any) -> bool:
    """`only the UNet` as `not the text encoder`."""
    if not truth(value):
        raise NotTaken(INERT, "off")
    return False


def truth(value: Any) -> bool:
    """Whether a switch is on, whichever way it is written."""
    return str(value).strip().lower() in ("true", "1", "1.0", "yes", "on")


def seed(value: Any) -> Any:
    """A fixed seed; 0 and nothing mean a new one each time there, and ours stays."""
    if number(value) in (0, -1):
        raise NotTaken(INERT, "a new seed for each run there; here every run has one, so that it can be repeated")
    return number(value)


def every(value: Any) -> Any:
    """An interval, of which 0 means never."""
    if number(value) in (0, 0.0):
        raise NotTaken(INERT, "off")
    return number(value)


def unless_off(value: int) -> int | None:
    """A number of which 0 is said by silence."""
    return value or None


def caption_file(value: Any) -> Any:
    """The ending of caption files; both usual ones are read."""
    if str(value).strip().lower() in (".txt", ".caption"):
        raise NotTaken(INERT, "both .txt and .caption files are read")
    raise NotTaken(UNSUPPORTED, "captions are read from .txt and .caption files")


def comma(value: Any) -> Any:
    """What separates tags: always a comma here."""
    if str(value).strip() in (",", ""):
        raise NotTaken(INERT, "tags are separated by commas")
    raise NotTaken(UNSUPPORTED, "tags are separated by commas only")


def clip_layer(value: Any) -> Any:
    """clip_skip; 0 is how the GUI leaves it alone."""
    return every(value)


def prompt_lines(value: Any) -> list[str]:
    """Preview prompts, one a line; a path to a file of prompts cannot be followed."""
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value]
    lines = [line.strip() for line in str(value).splitlines()]
    prompts = [line.split(" --")[0].strip() for line in lines if line and not line.startswith("#")]
    if len(prompts) == 1 and re.search(r"\.(txt|toml|json)$", prompts[0]):
        raise NotTaken(UNSUPPORTED, "names a file of prompts; write the prompts themselves into sample.prompts")
    return prompts


def _literal(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
