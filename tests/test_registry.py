import pytest

from trainer_core.errors import ConfigError
from trainer_core.registry import Registry


@pytest.fixture
def schedules() -> Registry[str]:
    registry: Registry[str] = Registry("schedule")
    registry.register("cosine_with_restarts", "restarts")("the restarting one")
    registry.register("constant")("the flat one")
    return registry


@pytest.mark.parametrize("name", ["cosine_with_restarts", "Cosine-With-Restarts", "CosineWithRestarts", "RESTARTS"])
def test_lookups_ignore_case_and_dashes_and_know_other_names(schedules, name):
    assert schedules.get(name) == "the restarting one"
    assert schedules.canonical(name) == "cosine_with_restarts"


def test_names_are_the_first_ones_in_order_of_registration(schedules):
    assert schedules.names() == ("cosine_with_restarts", "constant")
    assert dict(schedules) == {"cosine_with_restarts": "the restarting one", "constant": "the flat one"}


def test_registering_gives_the_entry_back_so_that_it_decorates():
    registry: Registry[type] = Registry("adapter")

    @registry.register("lora")
    class Lora: ...

    assert registry.get("lora") is Lora


def test_a_near_miss_is_answered_with_the_nearest_name(schedules):
    with pytest.raises(ConfigError, match='unknown schedule "constnat"; did you mean "constant"'):
        schedules.get("constnat")


def test_a_far_miss_is_answered_with_every_name(schedules):
    with pytest.raises(ConfigError, match="choose one of cosine_with_restarts, constant"):
        schedules.get("xyz")
