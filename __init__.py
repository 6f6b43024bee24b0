"""ComfyUI's door to LazyLoRA: the nodes, and the folder of the frontend extension.

Outside ComfyUI (pytest, A1111 and Forge, a plain import) this file imports nothing."""

import importlib.util

WEB_DIRECTORY = "./web"

# `__package__` is empty where the file was loaded as a lone module: then relative imports have nothing to start from.
if __package__ and importlib.util.find_spec("comfy_api"):
    from .nodes.extension import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
