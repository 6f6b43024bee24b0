import os
import sys

script_path = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def option(name, default=None):
    """The value behind an option of the command line."""
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


data_path = option("--data-dir", script_path)
models_path = os.path.join(data_path, "models")
extensions_dir = os.path.join(data_path, "extensions")
extensions_builtin_dir = os.path.join(script_path, "extensions-builtin")
