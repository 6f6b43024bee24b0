# Its own annotations contradict what it returns; and what pyright says must not depend on whether it is installed.
from typing import Any

def __getattr__(name: str) -> Any: ...
