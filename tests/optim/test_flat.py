import pytest
import torch
from torch import nn

from trainer_core.bench.optimizer_step import CountedOperations
from trainer_core.errors import ConfigError
from trainer_core.optim import FlatBuffer, ParamGroup


@pytest.fixture
def two_groups(toy):
    unet, te = toy.new_parameters(), toy.new_parameters(seed=1, prefix="t")
    return unet, te, FlatBuffer([ParamGroup("unet", unet, 1.0), ParamGroup("te1", te, 0.5)])


def test_parameters_keep_their_values_and_become_views(toy):
    before = {name: parameter.detach().clone() for name, parameter in toy.new_parameters().items()}
    parameters = toy.new_parameters()
    buffer = FlatBuffer([ParamGroup("unet", parameters, 1.0)])
    assert buffer.is_bound()
    assert all(torch.equal(parameters[name], value) for name, value in before.items())
    buffer.params.fill_(2.0)
    assert all((parameter == 2).all() for parameter in parameters.values())


def test_backward_accumulates_into_the_buffer(two_groups):
    unet, te, buffer = two_groups
    everything = [*unet.values(), *te.values()]
    for _ in range(2):
        sum((parameter * 3).sum() for parameter in everything).backward()
    assert all((view == 6).all() for _, view in buffer.named(buffer.grads))
    assert buffer.is_bound()
    buffer.zero_grads()
    assert all((parameter.grad == 0).all() for parameter in everything)


def test_gradients_cut_loose_are_noticed(two_groups):
    unet, _, buffer = two_groups
    next(iter(unet.values())).grad = None
    assert not buffer.is_bound()


def test_groups_are_contiguous_and_places_find_every_tensor(two_groups):
    unet, te, buffer = two_groups
    first, second = buffer.groups
    assert (first.name, first.start, second.stop) == ("unet", 0, buffer.numel)
    assert first.stop == second.start
    assert [place.name for place in buffer.places_of(second)] == list(te)
    for place, view in buffer.named(buffer.params):
        assert torch.equal(view, {**unet, **te}[place.name])
        assert place.start * 4 % 64 == 0


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_clipping_matches_torch(toy, two_groups, max_norm):
    unet, te, buffer = two_groups
    reference = [nn.Parameter(parameter.detach().clone()) for parameter in [*unet.values(), *te.values()]]
    toy.fill_gradients({**unet, **te}, step=3)
    toy.fill_gradients(dict(enumerate(reference)), step=3)
    expected = torch.nn.utils.clip_grad_norm_(reference, max_norm)
    torch.testing.assert_close(buffer.clip_grad_norm(max_norm), expected, rtol=1e-6, atol=0)
    for (_, gradient), other in zip(buffer.named(buffer.grads), reference, strict=True):
        torch.testing.assert_close(gradient, other.grad, rtol=1e-6, atol=0)


def test_norm_of_a_large_buffer_is_exact_to_a_millionth():
    buffer = FlatBuffer([ParamGroup("unet", {"w": nn.Parameter(torch.zeros(3_000_001))}, 1.0)])
    buffer.grads.normal_(generator=torch.Generator().manual_seed(0))
    exact = buffer.grads.double().norm()
    assert abs(buffer.grad_norm() / exact - 1) < 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_value_zeroes_the_whole_gradient(toy, two_groups, bad):
    unet, _, buffer = two_groups
    toy.fill_gradients(unet, step=0)
    good = buffer.grads.clone()
    assert buffer.zero_nonfinite_grads()
    assert torch.equal(buffer.grads, good)
    buffer.grads[17] = bad
    assert not buffer.zero_nonfinite_grads()
    assert (buffer.grads == 0).all()


def test_norm_guard_and_clip_take_few_kernels_and_no_sync(toy, two_groups):
    _, _, buffer = two_groups
    with CountedOperations() as ops:
        norm = buffer.grad_norm()
        buffer.zero_nonfinite_grads(norm)
        buffer.clip_grad_norm(1.0, norm)
        buffer.zero_grads()
    assert ops.syncs == 0
    assert ops.kernels < 25


def test_layout_tells_networks_apart(toy):
    def layout(**changed):
        return int(FlatBuffer([ParamGroup("unet", toy.new_parameters(**changed), 1.0)]).layout)

    assert layout() == layout(seed=5)
    assert len({layout(), layout(prefix="q"), layout(shapes=((33, 4), *toy.shapes[1:]))}) == 3


def test_wrong_parameters_are_refused(toy):
    shared = nn.Parameter(torch.zeros(3))
    half = nn.Parameter(torch.zeros(3, dtype=torch.float16))
    for groups, words in [
        ([ParamGroup("unet", {}, 1.0)], "at least one"),
        ([ParamGroup("a", {"x": shared}, 1.0), ParamGroup("b", {"y": shared}, 1.0)], "twice"),
        ([ParamGroup("a", {"x": half}, 1.0)], "fp32"),
        ([ParamGroup("a", {"x": shared}, 1.0), ParamGroup("a", {"y": nn.Parameter(torch.zeros(1))}, 1.0)], "names"),
    ]:
        with pytest.raises(ValueError, match=words):
            FlatBuffer(groups)
    with pytest.raises(ConfigError, match='"unet" is -1'):
        FlatBuffer([ParamGroup("unet", {"x": shared}, -1.0)])
