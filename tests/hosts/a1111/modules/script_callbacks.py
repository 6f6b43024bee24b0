"""What extensions ask to be called for; forgotten when the UI is reloaded."""

callbacks = {}


def _registrar(name):
    def register(callback):
        callbacks.setdefault(name, []).append(callback)

    return register


on_before_ui, on_ui_tabs, on_ui_settings, on_app_started, on_model_loaded, on_script_unloaded, on_before_reload = map(
    _registrar,
    ("before_ui", "ui_tabs", "ui_settings", "app_started", "model_loaded", "script_unloaded", "before_reload"),
)


def clear_callbacks():
    callbacks.clear()


def _call(name, *args):
    return [callback(*args) for callback in callbacks.get(name, [])]


def before_ui_callback():
    _call("before_ui")


def ui_tabs_callback():
    return [tab for tabs in _call("ui_tabs") for tab in tabs or []]


def app_started_callback(demo, app):
    _call("app_started", demo, app)


def model_loaded_callback(sd_model):
    _call("model_loaded", sd_model)


def script_unloaded_callback():
    for callback in reversed(callbacks.get("script_unloaded", [])):
        callback()


def before_reload_callback():
    _call("before_reload")
