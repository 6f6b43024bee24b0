import inspect

import pytest
import torch

from trainer_core.errors import ConfigError
from trainer_core.optim import SCHEDULES, learning_rate_factors, warmup_steps


def reference_factors(package, name, total, warmup, base_lr, **options):
    """The factors of a package's get_scheduler, read off an optimizer that it drives."""
    get_scheduler = pytest.importorskip(package).get_scheduler
    if not options.keys() <= inspect.signature(get_scheduler).parameters.keys():
        pytest.skip(f"this {package} is older than what is compared")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total, **options)
    factors = []
    for _ in range(total):
        factors.append(scheduler.get_last_lr()[0] / base_lr)
        optimizer.step()
        scheduler.step()
    return factors


SETTINGS = [
    ("constant", 0, {}),
    ("constant_with_warmup", 7, {}),
    ("linear", 0, {}),
    ("linear", 7, {}),
    ("cosine", 0, {}),
    ("cosine", 7, {}),
    ("cosine_with_restarts", 7, {"num_cycles": 1}),
    ("cosine_with_restarts", 0, {"num_cycles": 3}),
    ("polynomial", 7, {"power": 1.0}),
    ("polynomial", 0, {"power": 2.5}),
]


@pytest.mark.parametrize("base_lr", [1.0, 1e-4])
@pytest.mark.parametrize(("name", "warmup", "options"), SETTINGS)
def test_factors_are_those_of_diffusers(name, warmup, options, base_lr):
    expected = reference_factors("diffusers.optimization", name, 40, warmup, base_lr, **options)
    actual = learning_rate_factors(name, 40, warmup, base_lr=base_lr, **options)
    assert actual == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("name", "warmup", "options"), [s for s in SETTINGS if s[2].get("power", 1.0) == 1.0])
def test_factors_are_those_of_transformers(name, warmup, options):
    options = {key: value for key, value in options.items() if key != "power"}
    extra = {"scheduler_specific_kwargs": options} if options else {}
    expected = reference_factors("transformers.optimization", name, 40, warmup, 1.0, **extra)
    assert learning_rate_factors(name, 40, warmup, **options) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "warmup", "ours", "theirs"),
    [
        ("inverse_sqrt", 7, {}, {}),
        ("inverse_sqrt", 0, {"timescale": 20}, {"timescale": 20}),
        ("cosine_with_min_lr", 7, {"min_lr_ratio": 0.1}, {"num_cycles": 0.5, "min_lr_rate": 0.1}),
        ("cosine_with_min_lr", 0, {"num_cycles": 3}, {"num_cycles": 1.5, "min_lr_rate": 0.0}),
        ("warmup_stable_decay", 7, {"decay_steps": 10}, {"num_decay_steps": 10, "num_cycles": 0.5}),
        (
            "warmup_stable_decay",
            7,
            {"decay_steps": 20, "min_lr_ratio": 0.2, "num_cycles": 3},
            {"num_decay_steps": 20, "min_lr_ratio": 0.2, "num_cycles": 1.5},
        ),
    ],
)
def test_kohyas_newer_schedules_are_those_of_transformers(name, warmup, ours, theirs):
    # sd-scripts passes half of lr_scheduler_num_cycles on
    expected = reference_factors("transformers.optimization", name, 40, warmup, 1.0, scheduler_specific_kwargs=theirs)
    assert learning_rate_factors(name, 40, warmup, **ours) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", [name for name in SCHEDULES.names() if name != "constant"])
def test_every_schedule_survives_a_run_that_is_all_warm_up(name):
    assert learning_rate_factors(name, 4, 4, step_rules="1") == [0, 0.25, 0.5, 0.75]
    assert learning_rate_factors(name, 0, step_rules="1") == []


def test_names_ignore_case():
    assert learning_rate_factors("Cosine", 5) == learning_rate_factors("cosine", 5)


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        *((0.1, 20), ("0.1", 20), ("10%", 20), (" 12.5 % ", 25), (0.29, 58), (0.999, 199), ("100%", 200)),
        *((100, 100), ("100", 100), (1, 1), ("1", 1)),
        *((0, 0), ("0", 0), (0.0, 0), ("0%", 0)),
    ],
)
def test_warm_up_is_told_by_its_notation(written, steps):
    assert warmup_steps(written, 200) == steps


@pytest.mark.parametrize("written", ["ten", "", "%", 1.0, "1.0", 2.5, -0.1, -1, 201, "101%", "1/3", True, "nan", "inf"])
def test_a_warm_up_that_could_mean_anything_is_refused(written):
    with pytest.raises(ConfigError, match=r"10%|100%|steps"):
        warmup_steps(written, 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cosin", 10), 'did you mean "cosine"'),
        (("constant", 10, 2), "constant_with_warmup"),
        (("linear", 10, 11), "does not fit"),
        (("cosine_with_restarts", 10, 0, 0), "at least 1 cycle"),
        (("polynomial", 10, 0, 1, 1.0, 1e-8), "1e-07"),
    ],
)
def test_contradictions_name_the_cure(arguments, words):
    with pytest.raises(ConfigError, match=words):
        learning_rate_factors(*arguments)
