# ComfyUI is not a package that can be installed beside us. Without this, pyright takes hosts/comfy.py for it.
from typing import Any

def __getattr__(name: str) -> Any: ...
