"""A real A1111 in its own process, with a thin checkpoint; `webui_server.WebuiClient` talks to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hosts.webui_server import WebuiClient, eventually, free_port

_HOSTS = Path(__file__).parent
_OPTIONS = "--use-cpu all --no-half --precision full --no-hashing --no-download-sd-model --skip-version-check --api"
_PREPARE = """
import sys
from pathlib import Path

hosts, a1111, data = map(Path, sys.argv[1:])
sys.path.insert(0, str(hosts))
import a1111_contract
from a1111_checkpoints import write_checkpoint

a1111_contract.boot(a1111, data)
write_checkpoint("sd1", data / "checkpoints")
"""


@contextmanager
def a1111_server(a1111: Path, python: str, data: Path) -> Iterator[WebuiClient]:
    """An A1111 on the CPU with an SD 1.x checkpoint and the extensions in `data`, for as long as the block lasts."""
    # without this folder, which it would download, it ends when its page is up
    (a1111 / "repositories" / "stable-diffusion-webui-assets").mkdir(exist_ok=True)
    port, log = free_port(), data / "server.log"
    client = WebuiClient(f"http://127.0.0.1:{port}", data, log)
    places = ["--port", str(port), "--data-dir", str(data), "--ckpt-dir", str(data / "checkpoints")]
    hub = str(data / "hub")
    quiet = {"TRANSFORMERS_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **quiet, "HUGGINGFACE_HUB_CACHE": hub, "TRANSFORMERS_CACHE": hub}
    with log.open("w") as output:
        made = subprocess.run(
            [python, "-c", _PREPARE, str(_HOSTS), str(a1111), str(data)], stdout=output, stderr=subprocess.STDOUT
        )
        assert made.returncode == 0, client.log_tail()
        server = subprocess.Popen(
            [python, "webui.py", *_OPTIONS.split(), *places],
            **{"cwd": a1111, "env": environment, "stdout": output, "stderr": subprocess.STDOUT},
        )
    try:
        # a request that comes before the page is wholly up ends its start: "Cannot add middleware after …"
        eventually(lambda: server.poll() is not None or "Startup time:" in log.read_text(), 600, client.log_tail)
        assert server.poll() is None, client.log_tail()
        client.post("/sdapi/v1/options", {"live_previews_enable": False})  # they would download a small decoder
        yield client
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
