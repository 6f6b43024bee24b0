"""What A1111 and Forge load: it hands our tab, routes and plot axes to the UI. Everything else is in trainer_core.

Our folder is on sys.path only while this file runs, so trainer_core is imported here and now, not in a callback.
Reload UI runs the file again, and nothing else: what must outlive that is kept in trainer_core."""

from modules import script_callbacks

from trainer_core import webui_extension

webui_extension.add_axes()  # now, as with --nowebui the UI is built before on_before_ui
script_callbacks.on_before_ui(webui_extension.add_axes)
script_callbacks.on_ui_tabs(webui_extension.tabs)
script_callbacks.on_app_started(webui_extension.add_routes)
