import pytest
import torch

from trainer_core.demo.budget import Average, Budget, load_state, save_state, warm_cosine


def test_an_interrupted_budget_goes_on_where_it_was():
    assert Budget(100).progress < 0.01
    assert Budget(100, spent=50).progress == pytest.approx(0.5, abs=0.01)
    assert Budget(100, spent=200).progress == 1
    assert not Budget(100, spent=200).is_left


def test_learning_rate_rises_then_falls_to_the_floor():
    factors = [warm_cosine(i / 100, warmup=0.1, floor=0.01) for i in range(101)]
    assert max(factors) == factors[10] == pytest.approx(1)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.01)


def test_average_follows_early_and_smooths_late():
    weight = torch.zeros(1)
    average = Average([weight], decay=0.99)
    for _ in range(500):
        weight.fill_(1.0)
        average.update()
    assert average.values[0].item() > 0.98
    weight.fill_(5.0)
    average.update()
    assert average.values[0].item() < 1.2


def test_state_survives_and_is_none_before_the_first_save(tmp_path):
    path = tmp_path / "new" / "state.pt"
    assert load_state(path) is None
    average = Average([torch.ones(2)], decay=0.9)
    average.update()
    save_state(path, {"average": average.state(), "step": 3})
    again = Average([torch.zeros(2)], decay=0.9)
    again.restore(load_state(path)["average"])
    assert torch.equal(again.values[0], torch.ones(2))
    assert not list(path.parent.glob("*.tmp"))
