"""Which layers are adapted: LyCORIS's presets and a person's own patterns, over canonical names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..config import NetworkConfig
from ..errors import ConfigError, did_you_mean

_TRANSFORMER = r"\.attentions\.\d+\."
_ATTENTION = r"\.attentions\.\d+\..*\.attn[12]\."
_CONVOLUTIONAL = r"\.(resnets|downsamplers|upsamplers)\.\d+\."
_RESNET = r"\.resnets\.\d+\."
_EDGES = r"^conv_(in|out)$"
_TIME = r"^time_embedding\.linear_[12]$"
_TEXT = r"^text_model\.encoder\.layers\.\d+\.(self_attn|mlp)\."
_TEXT_ATTENTION = r"^text_model\.encoder\.layers\.\d+\.self_attn\."


@dataclass(frozen=True)
class Preset:
    """Layers by what their canonical names contain. kernels: convolutions of more than one pixel, too."""

    patterns: tuple[str, ...]
    kernels: bool = False

    def has(self, name: str) -> bool:
        """Whether layers of this name are meant."""
        return any(re.search(pattern, name) for pattern in self.patterns)


# LyCORIS's `config.py`, whose module classes are told by their names here.
PRESETS = {
    "full": Preset((_TRANSFORMER, _CONVOLUTIONAL, _EDGES, _TIME, _TEXT), kernels=True),
    "full-lin": Preset((_TRANSFORMER, _RESNET, _TIME, _TEXT)),
    "attn-mlp": Preset((_TRANSFORMER, _TEXT)),
    "attn-only": Preset((_ATTENTION, _TEXT_ATTENTION)),
    "unet-only": Preset((_TRANSFORMER, _CONVOLUTIONAL, _EDGES, _TIME), kernels=True),
    "unet-transformer-only": Preset((_TRANSFORMER,)),
    "unet-convblock-only": Preset((_CONVOLUTIONAL, _EDGES), kernels=True),
    "ia3": Preset((r"\.attn[12]\.to_[kv]$", r"\.ff\.net\.2$", r"\.self_attn\.[kv]_proj$", r"\.mlp\.fc2$")),
}

# kohya's own sets: networks.lora, without and with conv_dim.
LORA, LOCON = PRESETS["attn-mlp"], Preset((_TRANSFORMER, _CONVOLUTIONAL, _TEXT), kernels=True)


def preset_named(name: str) -> Preset:
    """LyCORIS's preset of that name. Raises ConfigError for another."""
    if name not in PRESETS:
        raise ConfigError(f'unknown preset "{name}"{did_you_mean(name, PRESETS) or "; leave it empty"}')
    return PRESETS[name]


def chosen_by_patterns(config: NetworkConfig) -> Callable[[str], bool]:
    """Whether `include` and `exclude` leave a name in. Raises ConfigError for a malformed pattern."""
    included, excluded = _matchers(config.include), _matchers(config.exclude)

    def is_chosen(name: str) -> bool:
        return not any(hit(name) for hit in excluded) and (not included or any(hit(name) for hit in included))

    return is_chosen


def _matchers(patterns: str) -> list[Callable[[str], bool]]:
    return [_matcher(pattern.strip()) for pattern in patterns.split(",") if pattern.strip()]


def _matcher(pattern: str) -> Callable[[str], bool]:
    if not pattern.startswith("re:"):
        return lambda name: fnmatchcase(name, pattern)
    try:
        expression = re.compile(pattern[3:])
    except re.error as error:
        raise ConfigError(f'the pattern "{pattern}" is no regular expression ({error}); correct it') from None
    return lambda name: bool(expression.search(name))
