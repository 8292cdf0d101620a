"""A JupyterLab for tests that begins with no settings of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

HOMES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_WORKSPACES_DIR")


@contextmanager
def jupyterlab(folder, options=(), settings=None):
    """Serve JupyterLab; yield its address. What it writes goes into `settings`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = settings or folder / ".jupyter"
    settings.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    command += [f"--port={port}", "--ip=127.0.0.1", "--IdentityProvider.token="]
    homes = {name: str(settings / name) for name in HOMES}
    with (settings / "log.txt").open("w") as log:
        started = subprocess.Popen(
            command, cwd=folder, env=os.environ | homes, stdout=log, stderr=log
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"{address}/lab", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                pytest.fail((settings / "log.txt").read_text())
            yield address
        finally:
            started.terminate()
            started.wait(20)
