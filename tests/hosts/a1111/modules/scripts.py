"""Runs every extension's scripts/*.py with its own folder first on sys.path, which is put back afterwards."""

import os
import sys
import traceback
from collections import namedtuple

from modules import paths_internal, script_callbacks, script_loading

ScriptClassData = namedtuple("ScriptClassData", ["script_class", "path", "basedir", "module"])
scripts_data = []
loading_failures = {}
current_basedir = paths_internal.script_path


class Script:
    def title(self):
        raise NotImplementedError

    def ui(self, is_img2img):
        pass


def basedir():
    """The extension's folder, while its script is being loaded."""
    return current_basedir


def list_scripts():
    """(extension's folder, script's path) of built-in extensions and the user's."""
    for parent in (paths_internal.extensions_builtin_dir, paths_internal.extensions_dir):
        for extension in sorted(os.listdir(parent)) if os.path.isdir(parent) else []:
            folder = os.path.join(parent, extension, "scripts")
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                if name.endswith(".py"):
                    yield os.path.join(parent, extension), os.path.join(folder, name)


def load_scripts():
    global current_basedir
    scripts_data.clear()
    loading_failures.clear()
    script_callbacks.clear_callbacks()
    syspath = sys.path
    for folder, path in list_scripts():
        try:
            if folder != paths_internal.script_path:
                sys.path = [folder, *sys.path]
            current_basedir = folder
            module = script_loading.load_module(path)
            for each in vars(module).values():
                if isinstance(each, type) and issubclass(each, Script) and each is not Script:
                    scripts_data.append(ScriptClassData(each, path, folder, module))
        except Exception:
            loading_failures[path] = traceback.format_exc()
            print(loading_failures[path], file=sys.stderr)
        finally:
            sys.path = syspath
            current_basedir = paths_internal.script_path


def reload_scripts():
    """What Reload UI does; modules that were imported stay."""
    script_callbacks.script_unloaded_callback()
    load_scripts()
