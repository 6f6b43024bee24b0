"""Named implementations: a new algorithm, optimizer or schedule is one file that registers itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .errors import ConfigError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Names → implementations of one kind of thing. Look-ups ignore case, `-` and `_`, as people do."""

    def __init__(self, what: str):
        """what: the kind's name in messages, e.g. `"optimizer"`."""
        self.what = what
        self._entries: dict[str, T] = {}
        self._names: dict[str, str] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator: file the object under its names; the first is the one that `names()` shows."""

        def file_under_names(entry: T) -> T:
            self._entries[names[0]] = entry
            for name in names:
                self._names[_folded(name)] = names[0]
            return entry

        return file_under_names

    def canonical(self, name: str) -> str:
        """The name as it was registered. Raises ConfigError, with the nearest name, if there is none."""
        try:
            return self._names[_folded(name)]
        except KeyError:
            hint = did_you_mean(name, self._entries)
            known = ", ".join(self._entries)
            raise ConfigError(f'unknown {self.what} "{name}"{hint or f"; choose one of {known}"}') from None

    def get(self, name: str) -> T:
        """The implementation filed under `name`. Raises ConfigError, with the nearest name, if there is none."""
        return self._entries[self.canonical(name)]

    def names(self) -> tuple[str, ...]:
        """Every registered name, in order of registration."""
        return tuple(self._entries)

    def __contains__(self, name: str) -> bool:
        """Whether something is filed under `name`."""
        return _folded(name) in self._names

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(self._entries.items())


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
