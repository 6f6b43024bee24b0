"""Ours against the packages, step by step on the same closed loop: the gradient depends on where each has got to."""

import pytest
import torch

from trainer_core.optim import FlatBuffer, ParamGroup, blocks, build_optimizer

STEPS = 300

# Cases in which the fp32 package stays within 1e-5 of itself in fp64: with a smaller d0 the first moves drown in the
# rounding of the parameters, and a stronger decay diverges, so that two runs of anything would differ.
PRODIGY = [
    {},
    {"weight_decay": 0.1, "use_bias_correction": True, "safeguard_warmup": True, "betas": (0.9, 0.99)},
    {"weight_decay": 0.05, "decouple": False, "growth_rate": 1.02},
    {"betas": (0.0, 0.99), "d_coef": 0.5, "d0": 1e-4},
    {"betas": (0.0, 0.99), "weight_decay": 0.05, "decouple": False, "d0": 1e-4},
    {"beta3": 0.95, "d_coef": 2.0, "eps": 1e-6},
]
DADAPT = [
    {},
    {"weight_decay": 0.1, "decouple": True, "betas": (0.9, 0.99)},
    {"weight_decay": 0.05, "decouple": False, "growth_rate": 1.02},
    {"use_bias_correction": True, "d0": 1e-5, "eps": 1e-6},
]
ADAMW = [{}, {"betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-6}]

CASES = [
    *(("Prodigy", 1.0, options) for options in PRODIGY),
    *(("DAdaptAdam", 1.0, options) for options in DADAPT),
    *(("AdamW", 1e-2, options) for options in ADAMW),
]


def package_kind(name):
    if name == "AdamW":
        return torch.optim.AdamW
    package = pytest.importorskip({"Prodigy": "prodigyopt", "DAdaptAdam": "dadaptation"}[name])
    return getattr(package, name)


def schedule(step):
    """A warm-up that begins at 0, then a slow fall."""
    return step / 10 if step < 10 else 1 - step / (2 * STEPS)


def set_lr(optimizer, rates):
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr


def distance(ours, theirs):
    """‖ours − theirs‖ / ‖theirs‖ over all tensors."""
    a, b = (torch.cat([p.detach().flatten() for p in parameters.values()]) for parameters in (ours, theirs))
    return float((a - b).norm() / b.norm())


def assert_d_agrees(optimizer, reference):
    if optimizer.d is not None:
        assert float(optimizer.d) == pytest.approx(reference.param_groups[0]["d"], rel=1e-5)


@pytest.mark.parametrize(("name", "lr", "options"), CASES)
def test_matches_the_package(toy, monkeypatch, name, lr, options):
    monkeypatch.setattr(blocks, "CPU_BLOCK", 100)  # several blocks, the last of them shorter
    ours, theirs = toy.new_parameters(), toy.new_parameters()
    optimizer = build_optimizer(name, FlatBuffer([ParamGroup("unet", ours, lr)]), options)
    reference = toy.package_optimizer(package_kind(name), list(theirs.values()), lr=lr, **options)
    for step in range(STEPS):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(schedule(step))
        set_lr(reference, [lr * schedule(step)])
        reference.step()
        assert_d_agrees(optimizer, reference)
        assert distance(ours, theirs) < 1e-4
    assert optimizer.d is None or float(optimizer.d) > 1e-4, "d never moved, so nothing was compared"


def grouped(toy):
    unet, te, frozen = (toy.new_parameters(seed=seed, prefix=prefix) for seed, prefix in ((0, "u"), (1, "t"), (2, "f")))
    return unet, te, frozen, {**unet, **te, **frozen}


def test_unequal_rates_are_dadaptations_layer_scale(toy):
    dadaptation = pytest.importorskip("dadaptation")
    unet, te, frozen, ours = grouped(toy)
    buffer = FlatBuffer([ParamGroup("unet", unet, 0.8), ParamGroup("te1", te, 0.2), ParamGroup("te2", frozen, 0.0)])
    optimizer = build_optimizer("DAdaptAdam", buffer, {"weight_decay": 0.1, "decouple": True})
    unet, te, _, theirs = grouped(toy)
    groups = [{"params": list(unet.values())}, {"params": list(te.values()), "layer_scale": 0.25}]
    reference = toy.package_optimizer(dadaptation.DAdaptAdam, groups, lr=0.8, weight_decay=0.1, decouple=True)
    for step in range(STEPS):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(schedule(step))
        set_lr(reference, [0.8 * schedule(step)] * 2)
        reference.step()
        assert_d_agrees(optimizer, reference)
        assert distance(ours, theirs) < 1e-4


def test_unequal_rates_are_prodigy_on_rescaled_parameters(toy):
    # p = r · q: Prodigy on q, whose gradient is r times that of p, is what a relative rate r should mean for p.
    prodigyopt = pytest.importorskip("prodigyopt")
    rate = 0.25
    unet, te, frozen, ours = grouped(toy)
    buffer = FlatBuffer(
        [ParamGroup("unet", unet, 0.8), ParamGroup("te1", te, 0.8 * rate), ParamGroup("f", frozen, 0.0)]
    )
    optimizer = build_optimizer("Prodigy", buffer, {"eps": 1e-20, "weight_decay": 0.1})
    unet, te, frozen, theirs = grouped(toy)
    scaled = [torch.nn.Parameter(parameter.detach() / rate) for parameter in te.values()]
    reference = toy.package_optimizer(
        prodigyopt.Prodigy, [*unet.values(), *scaled], lr=0.8, eps=1e-20, weight_decay=0.1
    )
    for step in range(STEPS):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        for q, p in zip(scaled, te.values(), strict=True):
            q.grad = p.grad * rate
        optimizer.step(schedule(step))
        set_lr(reference, [0.8 * schedule(step)])
        reference.step()
        for q, p in zip(scaled, te.values(), strict=True):
            p.data.copy_(q.data * rate)
        assert_d_agrees(optimizer, reference)
        assert distance(ours, theirs) < 1e-4


def test_adamw_has_a_rate_per_group(toy):
    unet, te, _, ours = grouped(toy)
    frozen_before = {name: parameter.detach().clone() for name, parameter in ours.items() if name.startswith("f")}
    frozen = {name: ours[name] for name in frozen_before}
    buffer = FlatBuffer([ParamGroup("unet", unet, 1e-2), ParamGroup("te1", te, 1e-3), ParamGroup("te2", frozen, 0.0)])
    optimizer = build_optimizer("AdamW", buffer, {})
    unet, te, _, theirs = grouped(toy)
    reference = torch.optim.AdamW(
        [{"params": list(unet.values()), "lr": 1e-2}, {"params": list(te.values()), "lr": 1e-3}], weight_decay=1e-2
    )
    for step in range(100):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(0.5)
        set_lr(reference, [5e-3, 5e-4])
        reference.step()
    assert distance(ours, theirs) < 1e-5


@pytest.mark.parametrize(("name", "lr", "options"), [CASES[1], CASES[3], CASES[7], CASES[10]])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_state_changes_hands_with_the_package(toy, name, lr, options, direction):
    ours, theirs = toy.new_parameters(), toy.new_parameters()
    optimizer = build_optimizer(name, FlatBuffer([ParamGroup("unet", ours, lr)]), options)
    reference = toy.package_optimizer(package_kind(name), list(theirs.values()), lr=lr, **options)
    first, first_step = (ours, optimizer.step) if direction == "to" else (theirs, lambda factor: reference.step())
    for step in range(60):
        toy.fill_gradients(first, step)
        first_step(1.0)
    with torch.no_grad():
        for a, b in zip(ours.values(), theirs.values(), strict=True):
            (b if direction == "to" else a).copy_(a if direction == "to" else b)
    if direction == "to":
        reference.load_state_dict(optimizer.to_package_state())
    else:
        optimizer.from_package_state(reference.state_dict())
    for step in range(60, 120):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(1.0)
        reference.step()
    assert_d_agrees(optimizer, reference)
    assert distance(ours, theirs) < 1e-4
