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
    {"slice_p": 3, "weight_decay": 0.05},
    {"slice_p": 11, "betas": (0.0, 0.99), "decouple": False, "weight_decay": 0.05, "d0": 1e-4},
]
DADAPT = [
    {},
    {"weight_decay": 0.1, "decouple": True, "betas": (0.9, 0.99)},
    {"weight_decay": 0.05, "decouple": False, "growth_rate": 1.02},
    {"use_bias_correction": True, "d0": 1e-5, "eps": 1e-6},
]
PREPRINT = [
    {"d0": 1e-4},
    {"weight_decay": 0.1, "decouple": True, "betas": (0.9, 0.99)},
    {"weight_decay": 0.05, "decouple": False, "growth_rate": 1.02},
    {"growth_rate": 2.0, "eps": 1e-7},
]
DADAPT_LION = [{}, {"weight_decay": 0.1, "betas": (0.95, 0.98), "d0": 1e-5}]
DUAL_AVERAGING = [{}, {"momentum": 0.9, "weight_decay": 0.05}, {"growth_rate": 1.02, "d0": 1e-4}]
ADAN = [
    {},
    {"no_prox": True, "weight_decay": 0.1, "betas": (0.9, 0.8, 0.99)},
    {"growth_rate": 1.02, "d0": 1e-5, "eps": 1e-6},
]
LION = [
    {},
    {"weight_decay": 0.5, "betas": (0.95, 0.98)},
    {"weight_decay": 0.01, "decoupled_weight_decay": True},
]
ADAMW = [{}, {"betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-6}]

CASES = [
    *(("Prodigy", 1.0, options) for options in PRODIGY),
    *(("DAdaptAdam", 1.0, options) for options in DADAPT),
    *(("DAdaptAdamPreprint", 1.0, options) for options in PREPRINT),
    *(("DAdaptLion", 0.5, options) for options in DADAPT_LION),
    *(("DAdaptSGD", 1.0, options) for options in DUAL_AVERAGING),
    *(("DAdaptAdaGrad", 1.0, options) for options in [*DUAL_AVERAGING, {"eps": 1e-4}]),
    *(("DAdaptAdan", 1.0, options) for options in ADAN),
    *(("DAdaptAdanIP", 1.0, options) for options in ADAN),
    *(("Lion", 1e-2, options) for options in LION),
    *(("AdamW", 1e-2, options) for options in ADAMW),
]
NAMES = tuple(dict.fromkeys(name for name, _, _ in CASES))

# These packages divide by zero, or take the gradient in, when a warm-up begins at 0: see the tests of their faults.
STARTS_ABOVE_ZERO = ("DAdaptSGD", "DAdaptLion", "DAdaptAdaGrad", "DAdaptAdan", "DAdaptAdanIP")


def package_kind(name):
    if name == "AdamW":
        return torch.optim.AdamW
    if name in ("DAdaptAdamPreprint", "DAdaptAdanIP"):
        return getattr(pytest.importorskip("dadaptation.experimental"), name)
    package = {"Prodigy": "prodigyopt", "Lion": "lion_pytorch"}.get(name, "dadaptation")
    return getattr(pytest.importorskip(package), name)


def schedule(step, name=""):
    """A warm-up that begins at 0 where the package survives that, then a slow fall."""
    return (step + (name in STARTS_ABOVE_ZERO)) / 10 if step < 10 else 1 - step / (2 * STEPS)


def set_lr(optimizer, rates):
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr


def distance(ours, theirs):
    """‖ours − theirs‖ / ‖theirs‖ over all tensors."""
    a, b = (torch.cat([p.detach().flatten() for p in parameters.values()]) for parameters in (ours, theirs))
    return float((a - b).norm() / b.norm())


def assert_d_agrees(optimizer, reference):
    if optimizer.d is not None:
        assert float(optimizer.d) == pytest.approx(float(reference.param_groups[0]["d"]), rel=1e-5)


@pytest.mark.parametrize(("name", "lr", "options"), CASES)
def test_matches_the_package(toy, monkeypatch, name, lr, options):
    monkeypatch.setattr(blocks, "CPU_BLOCK", 100)  # several blocks, the last of them shorter
    ours, theirs = toy.new_parameters(), toy.new_parameters()
    optimizer = build_optimizer(name, FlatBuffer([ParamGroup("unet", ours, lr)]), options)
    reference = toy.package_optimizer(package_kind(name), list(theirs.values()), lr=lr, **options)
    for step in range(STEPS):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(schedule(step, name))
        set_lr(reference, [lr * schedule(step, name)])
        reference.step()
        assert_d_agrees(optimizer, reference)
        assert step % 3 or distance(ours, theirs) < 1e-4
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


# What p = scale(r) · q must be, for the optimizer on q to move p r times as far. SGD's step goes with the square of the
# scale; a sign does not see it at all, so that only Lion's rate remains.
SCALES = {
    "Prodigy": lambda rate: rate,
    "DAdaptAdamPreprint": lambda rate: rate,
    "DAdaptAdan": lambda rate: rate,
    "DAdaptAdanIP": lambda rate: rate,
    "DAdaptLion": lambda rate: rate,
    "DAdaptSGD": lambda rate: rate**0.5,
}


@pytest.mark.parametrize("name", SCALES)
def test_unequal_rates_are_the_package_on_rescaled_parameters(toy, name):
    rate = 0.25
    scale = SCALES[name](rate)
    options = {} if name == "DAdaptSGD" else {"weight_decay": 0.1}
    if name not in ("DAdaptSGD", "DAdaptLion"):
        options["eps"] = 1e-20
    if name == "DAdaptAdamPreprint":
        options.update(d0=1e-4, decouple=True)
    unet, te, frozen, ours = grouped(toy)
    buffer = FlatBuffer(
        [ParamGroup("unet", unet, 0.8), ParamGroup("te1", te, 0.8 * rate), ParamGroup("f", frozen, 0.0)]
    )
    optimizer = build_optimizer(name, buffer, options)
    unet, te, frozen, theirs = grouped(toy)
    scaled = [torch.nn.Parameter(parameter.detach() / scale) for parameter in te.values()]
    reference = toy.package_optimizer(package_kind(name), [*unet.values(), *scaled], lr=0.8, **options)
    for step in range(150):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        for q, p in zip(scaled, te.values(), strict=True):
            q.grad = p.grad * scale
        optimizer.step(schedule(step, name))
        set_lr(reference, [0.8 * schedule(step, name)])
        reference.step()
        for q, p in zip(scaled, te.values(), strict=True):
            p.data.copy_(q.data * scale)
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


def busiest_case(name):
    return next((case for case in CASES if case[0] == name and len(case[2]) > 1), CASES[-1])


@pytest.mark.parametrize(
    ("name", "lr", "options"), [*map(busiest_case, NAMES), ("Prodigy", 1.0, PRODIGY[3]), ("Prodigy", 1.0, PRODIGY[-1])]
)
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


def test_the_preprint_agrees_at_its_defaults_too(toy):
    # d climbs six orders of magnitude in a few steps; there, the fp32 package is 4e-4 from itself in fp64.
    experimental = pytest.importorskip("dadaptation.experimental")
    ours, theirs = toy.new_parameters(), toy.new_parameters()
    optimizer = build_optimizer("DAdaptation", FlatBuffer([ParamGroup("unet", ours, 1.0)]), {})
    reference = toy.package_optimizer(experimental.DAdaptAdamPreprint, list(theirs.values()))
    for step in range(STEPS):
        for parameters in (ours, theirs):
            toy.fill_gradients(parameters, step)
        optimizer.step(1.0)
        reference.step()
        assert_d_agrees(optimizer, reference)
        assert distance(ours, theirs) < 1e-3
    assert distance(ours, theirs) < 1e-4


# --- Faults of the packages, which ours do not share ------------------------------------------------------------------


def one_group(toy, name, **options):
    theirs = toy.new_parameters()
    toy.fill_gradients(theirs, 0)
    return theirs, toy.package_optimizer(package_kind(name), list(theirs.values()), **options)


def test_dadaptations_sgd_divides_by_a_first_gradient_or_rate_of_zero(toy):
    theirs, reference = one_group(toy, "DAdaptSGD")
    for parameter in theirs.values():
        parameter.grad.zero_()
    with pytest.raises(ZeroDivisionError):
        reference.step()
    theirs, reference = one_group(toy, "DAdaptSGD")
    set_lr(reference, [0.0])
    with pytest.raises((ZeroDivisionError, UnboundLocalError)):
        reference.step()


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam", "DAdaptAdamPreprint", "DAdaptLion"])
def test_the_packages_move_a_group_of_rate_zero(toy, name):
    still, moving = toy.new_parameters(), toy.new_parameters(seed=1)
    groups = [{"params": list(moving.values()), "lr": 1.0}, {"params": list(still.values()), "lr": 1.0}]
    reference = toy.package_optimizer(package_kind(name), groups, lr=1.0, d0=0.01)
    for step in range(3):
        for parameters in (still, moving):
            toy.fill_gradients(parameters, step)
        reference.step()
    reference.param_groups[1]["lr"] = 0.0
    before = torch.cat([parameter.detach().flatten() for parameter in still.values()])
    reference.step()
    assert not torch.equal(before, torch.cat([parameter.detach().flatten() for parameter in still.values()]))


@pytest.mark.parametrize("name", ["DAdaptLion", "DAdaptAdaGrad", "DAdaptAdan", "DAdaptAdanIP"])
def test_the_packages_change_their_state_in_a_step_at_rate_zero(toy, name):
    _, reference = one_group(toy, name)
    key = "alphak" if name == "DAdaptAdaGrad" else "s"
    reference.step()
    before = [state[key].clone() for state in reference.state.values()]
    set_lr(reference, [0.0])
    reference.step()
    after = [state[key] for state in reference.state.values()]
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["DAdaptAdaGrad", "DAdaptAdan", "DAdaptAdanIP"])
def test_these_packages_take_the_first_groups_rate_for_all(toy, name):
    results = []
    for second_rate in (1.0, 0.1):
        first, second = toy.new_parameters(), toy.new_parameters(seed=1)
        groups = [{"params": list(first.values())}, {"params": list(second.values()), "lr": second_rate}]
        reference = toy.package_optimizer(package_kind(name), groups, lr=1.0, d0=0.01)
        for step in range(3):
            for parameters in (first, second):
                toy.fill_gradients(parameters, step)
            reference.step()
        results.append(torch.cat([parameter.detach().flatten() for parameter in second.values()]))
    assert torch.equal(*results)


def test_adan_ips_d_is_a_tensor(toy):
    _, reference = one_group(toy, "DAdaptAdanIP")
    for _ in range(3):
        reference.step()
    assert isinstance(reference.param_groups[0]["d"], torch.Tensor)


def test_dadaptations_sgd_leaves_decay_out_of_the_first_norm(toy):
    # ours does as well, so that the numbers agree; decay is still in every step
    norms = []
    for weight_decay in (0.0, 0.5):
        _, reference = one_group(toy, "DAdaptSGD", weight_decay=weight_decay)
        reference.step()
        norms.append(reference.param_groups[0]["g0_norm"])
    assert norms[0] == norms[1]
