import math

import pytest

from trainer_core.errors import ConfigError
from trainer_core.optim import parse_optimizer_args


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        (
            "decouple=True betas=0.9,0.99 weight_decay=0.4",
            {"decouple": True, "betas": (0.9, 0.99), "weight_decay": 0.4},
        ),
        (["decouple=True", "betas=0.9,0.99"], {"decouple": True, "betas": (0.9, 0.99)}),
        ("betas=(0.9, 0.99) d0=1e-4", {"betas": (0.9, 0.99), "d0": 1e-4}),
        ("weight_decay = 0.01\nbeta3=None", {"weight_decay": 0.01, "beta3": None}),
        ("decouple=True, weight_decay=0.4,", {"decouple": True, "weight_decay": 0.4}),
        (
            '"d_coef=1.0" "weight_decay=0.050" "safeguard_warmup=False"',
            {"d_coef": 1.0, "weight_decay": 0.05, "safeguard_warmup": False},
        ),
        ('betas=(0.9,0.99)"', None),
        ("growth_rate=inf", {"growth_rate": math.inf}),
        ("decouple=true", {"decouple": True}),
    ],
)
def test_pairs_as_kohya_writes_them(text, options):
    if options is None:
        with pytest.raises(ConfigError):
            parse_optimizer_args(text)
    else:
        assert parse_optimizer_args(text) == options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("decouple", "not key=value"),
        ("weight_decay=", "weight_decay="),
        ("weight_decay=abc", "weight_decay=abc"),
        ("d0=1 d0=2", "twice"),
        ("d0=__import__('os').getcwd()", "not a value"),
    ],
)
def test_what_is_no_pair_is_named(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_optimizer_args(text)
