"""Optimizers that come from packages: any class, resumed bit for bit, refused in a sentence."""

import sys

import pytest
import torch
from torch import nn

from trainer_core.errors import ConfigError, RunError
from trainer_core.optim import OPTIMIZERS, FlatBuffer, ParamGroup, build_optimizer
from trainer_core.optim.package_optimizer import PackageOptimizer

# Name, rate, options, package: torch's own, factored, schedule-free, and one with numbers of its own.
CASES = [
    ("RAdam", 1e-3, {}, "torch"),
    ("torch.optim.Adafactor", 1e-3, {}, "torch"),
    ("SGDNesterov", 1e-2, {"weight_decay": 0.1}, "torch"),
    ("Adafactor", 1e-3, {}, "transformers"),
    ("CAME", 1e-3, {}, "pytorch_optimizer"),
    ("ProdigyPlusScheduleFree", 1.0, {}, "prodigyplus"),
    ("prodigyplus.ProdigyPlusScheduleFree", 1.0, {"use_speed": True}, "prodigyplus"),
    ("dadaptation.DAdaptSGD", 1.0, {}, "dadaptation"),
]


def require_torchs(name):
    """Skip where torch is older than this optimizer of its own."""
    if name == "torch.optim.Adafactor" and not hasattr(torch.optim, "Adafactor"):
        pytest.skip("torch has no Adafactor before 2.5")


def build(toy, name, lr, options, seed=0):
    require_torchs(name)
    parameters = toy.new_parameters(seed=seed)
    buffer = FlatBuffer([ParamGroup("unet", parameters, lr)])
    return parameters, buffer, build_optimizer(name, buffer, options)


def run(toy, parameters, optimizer, steps):
    for step in steps:
        toy.fill_gradients(parameters, step)
        optimizer.step(min(1.0, step / 10))  # a warm-up from 0


@pytest.mark.parametrize(("name", "lr", "options", "package"), CASES)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(toy, tmp_path, name, lr, options, package):
    pytest.importorskip(package)
    safetensors = pytest.importorskip("safetensors.torch")
    whole, _, uninterrupted = build(toy, name, lr, options)
    run(toy, whole, uninterrupted, range(30))

    first, buffer, optimizer = build(toy, name, lr, options)
    run(toy, first, optimizer, range(15))
    optimizer.averaged()  # a saved epoch must not show in what trains
    state = {"weights": buffer.params, **optimizer.state_dict()}
    safetensors.save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "state")

    second, buffer, resumed = build(toy, name, lr, options, seed=7)
    state = safetensors.load_file(tmp_path / "state")
    buffer.params.copy_(state.pop("weights"))
    resumed.load_state_dict(state)
    run(toy, second, resumed, range(15, 30))
    assert all(torch.equal(second[key], parameter) for key, parameter in whole.items())


class KeepsAList(torch.optim.Optimizer):
    """Moves along the mean of the last two gradients, kept in a list with a tuple that says which is which."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                kept = [*state.get("kept", []), parameter.grad.clone()][-2:]
                state.update(kept=kept, named=({"count": len(kept)}, None))
                parameter.data.add_(sum(kept), alpha=-group["lr"] / len(kept))


def test_lists_of_tensors_are_resumed_too(toy):
    def built(seed=0):
        parameters = toy.new_parameters(seed=seed)
        buffer = FlatBuffer([ParamGroup("unet", parameters, 0.1)])
        return parameters, buffer, PackageOptimizer(buffer, KeepsAList, {})

    whole, first_buffer, first = built()
    run(toy, whole, first, range(5))
    second_parameters, second_buffer, second = built(seed=7)
    second_buffer.params.copy_(first_buffer.params)
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    for parameters, optimizer in ((whole, first), (second_parameters, second)):
        run(toy, parameters, optimizer, range(5, 8))
    assert torch.equal(first_buffer.params, second_buffer.params)


def test_torchs_elementwise_optimizers_give_their_own_numbers_on_long_tensors(toy):
    ours, _, optimizer = build(toy, "RAdam", 1e-2, {"weight_decay": 0.1})
    theirs = toy.new_parameters()
    reference = torch.optim.RAdam(list(theirs.values()), lr=1e-2, weight_decay=0.1)
    for step in range(40):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(1.0)
        reference.step()
    for key, parameter in theirs.items():
        torch.testing.assert_close(ours[key], parameter, rtol=1e-5, atol=1e-7)


def test_a_package_moves_as_it_does_alone(toy):
    came = pytest.importorskip("pytorch_optimizer").CAME
    ours, _, optimizer = build(toy, "came", 1e-2, {"weight_decay": 0.1})
    theirs = toy.new_parameters()
    reference = came(list(theirs.values()), lr=1e-2, weight_decay=0.1)
    for step in range(20):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(1.0)
        reference.step()
    assert all(torch.equal(ours[key], parameter) for key, parameter in theirs.items())


def test_schedule_free_weights_are_the_packages_average_and_training_goes_on_unmoved(toy):
    kind = pytest.importorskip("prodigyplus").ProdigyPlusScheduleFree
    ours, buffer, optimizer = build(toy, "ProdigyPlusScheduleFree", 1.0, {"d0": 1e-3})
    theirs = toy.new_parameters()
    reference = toy.package_optimizer(kind, list(theirs.values()), lr=1.0, d0=1e-3)
    for step in range(20):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(1.0)
        reference.step()
    trained = buffer.params.clone()
    average = optimizer.averaged()
    assert torch.equal(buffer.params, trained)
    reference.eval()
    for place, expected in zip(buffer.places, theirs.values(), strict=True):
        assert torch.equal(place.of(average), expected)
        assert not torch.equal(place.of(average), place.of(trained))


def test_what_has_no_average_says_so(toy):
    assert build(toy, "Prodigy", 1.0, {})[2].averaged() is None
    assert build(toy, "RAdam", 1e-3, {})[2].averaged() is None


@pytest.mark.parametrize("name", ["RAdam", "torch.optim.Adafactor"])
def test_each_group_has_its_rate_and_one_of_zero_is_frozen(toy, name):
    require_torchs(name)
    moving, slow, still = (toy.new_parameters(seed=3, prefix=prefix) for prefix in "mst")
    before = {key: parameter.detach().clone() for key, parameter in still.items()}
    groups = [ParamGroup("te1", still, 0.0), ParamGroup("unet", moving, 1e-2), ParamGroup("te2", slow, 1e-3)]
    optimizer = build_optimizer(name, FlatBuffer(groups), {"weight_decay": 0.1})
    assert optimizer.effective_lr(0.5) == {"te1": 0.0, "unet": 5e-3, "te2": 5e-4}
    for step in range(10):
        for parameters in (moving, slow, still):
            toy.fill_gradients(parameters, step)
        optimizer.step(1.0)
    assert all(torch.equal(parameter, before[key]) for key, parameter in still.items())
    way = {
        name: sum(float((parameters[f"{name}{i}"] - before[f"t{i}"]).norm().detach()) for i in range(len(before)))
        for name, parameters in (("m", moving), ("s", slow))
    }
    assert way["m"] > 3 * way["s"] > 0


def test_a_foreign_state_is_refused(toy):
    radam = build(toy, "RAdam", 1e-3, {})[2]
    with pytest.raises(RunError, match="another optimizer"):
        radam.load_state_dict(build(toy, "NAdam", 1e-3, {})[2].state_dict())
    with pytest.raises(RunError, match="another optimizer"):
        radam.load_state_dict(build(toy, "Prodigy", 1.0, {})[2].state_dict())
    other = FlatBuffer([ParamGroup("unet", {"other": nn.Parameter(torch.zeros(3))}, 1e-3)])
    with pytest.raises(RunError, match="another network"):
        radam.load_state_dict(build_optimizer("RAdam", other, {}).state_dict())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Adamm", {}, 'did you mean "AdamW"'),
        ("torch.optim.RAdamm", {}, 'did you mean "RAdam"'),
        ("torch.nn.Linear", {}, "no Optimizer"),
        ("torch.optim.Optimizer", {}, "no Optimizer"),
        ("os.system", {}, "no installed package"),
        ("torch.optim.__class__.mro()", {}, "module.Name"),
        ("nowhere.Adam", {}, "pip install nowhere"),
        ("RAdam", {"bogus": 1}, "bogus"),
        ("RAdam", {"betas": (2.0, 0.9)}, "beta"),
        ("Adafactor", {"relative_step": True}, "relative_step"),
    ],
)
def test_what_cannot_be_built_is_named(toy, name, options, words):
    with pytest.raises(ConfigError, match=words):
        build(toy, name, 1e-3, options)


def test_what_needs_the_loss_again_is_refused_at_the_first_step(toy):
    parameters, _, optimizer = build(toy, "torch.optim.LBFGS", 1e-3, {})
    with pytest.raises(ConfigError, match=r"LBFGS.*closure"):
        run(toy, parameters, optimizer, [0])


def test_a_missing_package_is_named_with_its_pip_line(toy, monkeypatch):
    monkeypatch.setattr("trainer_core.optim.installed.packages_distributions", dict)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        build(toy, "AdamW8bit", 1e-4, {})
    with pytest.raises(ConfigError, match="pip install prodigy-plus-schedule-free"):
        build(toy, "ProdigyPlusScheduleFree", 1.0, {})


def test_only_modules_of_installed_packages_are_imported(toy, tmp_path, monkeypatch):
    (tmp_path / "stray_script.py").write_text("raise SystemExit('this must not run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="no installed package"):
        build(toy, "stray_script.Adam", 1e-3, {})
    assert "stray_script" not in sys.modules


def test_kohyas_names_are_known():
    kohyas = (
        "AdamW, AdamW8bit, PagedAdamW, PagedAdamW8bit, PagedAdamW32bit, Lion, Lion8bit, PagedLion8bit, SGDNesterov, "
        "SGDNesterov8bit, AdEMAMix8bit, PagedAdEMAMix8bit, DAdaptation, DAdaptAdamPreprint, DAdaptAdaGrad, DAdaptAdam, "
        "DAdaptAdan, DAdaptAdanIP, DAdaptLion, DAdaptSGD, Prodigy, Adafactor, RAdamScheduleFree, AdamWScheduleFree, "
        "SGDScheduleFree"
    )
    assert all(name.lower() in OPTIMIZERS for name in kohyas.split(", "))
