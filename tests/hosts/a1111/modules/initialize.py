def imports():
    """What the web UI imports before anything else."""
    from modules import processing, sd_hijack, sd_models, shared  # noqa: F401


def initialize():
    from modules import scripts, sd_models

    sd_models.list_models()
    scripts.load_scripts()
