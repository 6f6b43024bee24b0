"""LazyLoRA's trainer: host-agnostic, imported by the ComfyUI nodes, the A1111/Forge extension and the command line."""

__version__ = "0.1.0"
