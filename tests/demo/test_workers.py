import pytest
import torch

from trainer_core.demo.workers import average_gradients, follow_first, run_workers


def _write_mean_gradient(rank: int, folder) -> None:
    weight = torch.zeros(3, requires_grad=True)
    unused = torch.zeros(2, requires_grad=True)
    (weight * (rank + 1)).sum().backward()
    average_gradients([weight, unused])
    torch.save((weight.grad, unused.grad, follow_first(rank + 0.25)), folder / f"{rank}.pt")


@pytest.mark.slow
def test_workers_share_gradients_and_the_first_ones_clock(tmp_path):
    run_workers(_write_mean_gradient, 2, tmp_path)
    for rank in range(2):
        gradient, unused, clock = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(gradient, torch.full((3,), 1.5))
        assert torch.equal(unused, torch.zeros(2))
        assert clock == 0.25


def test_alone_nothing_is_averaged():
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    average_gradients([weight])
    assert torch.equal(weight.grad, torch.ones(2))
    assert follow_first(0.5) == 0.5
