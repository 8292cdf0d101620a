"""Serve three students on this machine as chapters/serving.md tells, and measure it. By hand.

Needs, in an environment that has the course, ``pip install jupyterhub nbgitpuller``, and
``npm install configurable-http-proxy`` somewhere; then

    python tests/serving/run_hub.py --proxy SOMEWHERE/node_modules/.bin/configurable-http-proxy

A handout is the shared install (read-only) and, as a git repository, what each student pulls.
JupyterHub listens on 127.0.0.1 only. Each student starts a server, runs a chapter at the same
time as the others, answers an exercise, tries to write into the shared install (root always
can: run it as another user), and pulls a second time.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect
from tqdm import tqdm

from course_lib.exercises.handout import hand_out

STUDENTS = ("ada", "ben", "chi")
CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r} + "/{{username}}"
c.Spawner.cmd = [{python!r}, "-m", "jupyterhub.singleuser"]
c.Spawner.args = {args!r}
c.Spawner.environment = {{"OMP_NUM_THREADS": "1", "PYTHONPATH": {shared!r}}}
c.Spawner.start_timeout = c.Spawner.http_timeout = 180
c.JupyterHub.services = [{{"name": "driver", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [{{
    "name": "driver",
    "services": ["driver"],
    "scopes": ["admin:users", "admin:servers", "access:servers"],
}}]
"""
LAST = """
import os, pathlib, course_lib
from course_lib.exercises import check
here = pathlib.Path(course_lib.__file__)
try:
    (here.parent / "written").write_text("x")
    wrote = True
except OSError:
    wrote = False
answers = [check("1.4", "AE").correct, os.environ["OMP_NUM_THREADS"], str(here), wrote]
"""


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


async def ask(address, token, method="GET", body=None):
    request = HTTPRequest(
        address,
        method=method,
        headers={"Authorization": f"token {token}"},
        body=json.dumps(body or {}) if method == "POST" else None,
        request_timeout=200,
    )
    response = await AsyncHTTPClient().fetch(request)
    return json.loads(response.body or b"null")


async def until(done, what, seconds=180):
    end = time.monotonic() + seconds
    while not await done():
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.5)


async def execute(channel, code, **expressions):
    """Run code in a kernel; return the content of the reply."""
    name = uuid.uuid4().hex
    header = {"msg_id": name, "msg_type": "execute_request", "username": "", "session": name}
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    content |= {"stop_on_error": False, "user_expressions": expressions}
    message = {"header": header | {"version": "5.3", "date": ""}, "parent_header": {}}
    message |= {"metadata": {}, "content": content, "channel": "shell", "buffers": []}
    await channel.write_message(json.dumps(message))
    while True:
        text = await channel.read_message()
        if text is None:
            raise ConnectionError("the kernel has gone")
        if isinstance(text, str):
            reply = json.loads(text)
            asked = reply["parent_header"].get("msg_id") == name
            if asked and reply["msg_type"] == "execute_reply":
                return reply["content"]


async def study(base, student, token, cells, bar):
    """Start a student's server and kernel, run the cells; return what went on."""
    hub, server = f"{base}/hub/api/users/{student}", f"{base}/user/{student}"
    began = time.monotonic()
    await ask(hub, token, "POST")
    await ask(f"{hub}/server", token, "POST")

    async def ready():
        return ((await ask(hub, token))["servers"].get("") or {}).get("ready")

    await until(ready, f"the server of {student}")
    seconds = time.monotonic() - began
    kernel = await ask(f"{server}/api/kernels", token, "POST", {"name": "python3"})
    address = f"ws{server.removeprefix('http')}/api/kernels/{kernel['id']}/channels"
    channel = await websocket_connect(
        HTTPRequest(address, headers={"Authorization": f"token {token}"}),
        max_message_size=100_000_000,
    )
    errors = []
    for code in cells:
        reply = await execute(channel, code)
        if reply["status"] == "error":
            errors.append(f"{reply['ename']}: {reply['evalue']}")
        bar.update()
    reply = await execute(channel, LAST, told="__import__('json').dumps(answers)")
    told = reply["user_expressions"]["told"]["data"]["text/plain"]
    return seconds, errors, json.loads(told.strip("'")), time.monotonic() - began


async def measure(peaks, finished):
    """Note the most memory (proportional, in MB) that each student's processes held."""
    while not finished.is_set():
        now = dict.fromkeys(STUDENTS, 0)
        for process in psutil.process_iter():
            try:
                student = process.environ().get("JUPYTERHUB_USER")
                if student in now:
                    now[student] += process.memory_full_info().pss / 1e6
            except (psutil.Error, OSError):
                continue
        for student in STUDENTS:
            peaks[student] = max(peaks[student], now[student])
        await asyncio.sleep(1)


def pull(repository, home):
    command = [sys.executable, "-m", "nbgitpuller.pull", str(repository), "main", "course"]
    return subprocess.run(command, cwd=home, capture_output=True, text=True)


def git(folder, *words):
    who = ["-c", "user.name=lecturer", "-c", "user.email=lecturer@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


async def serve(options, folder):
    shared, homes, repository = folder / "shared", folder / "homes", folder / "repository"
    hand_out(shared)
    shutil.copytree(shared, repository)
    git(repository, "init", "-b", "main")
    git(repository, "add", "-A")
    git(repository, "commit", "-m", "handout")
    for path in [shared, *shared.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    for student in STUDENTS:
        (homes / student).mkdir(parents=True)
        done = pull(repository, homes / student)
        assert done.returncode == 0, done.stderr
    (path,) = (homes / STUDENTS[0] / "course" / "chapters").glob(
        f"{options.chapter:02}_*.ipynb"
    )
    cells = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    port, hub, api = free_ports(3)
    token = secrets.token_hex(16)
    args = ["--ServerApp.allow_root=True"] if os.geteuid() == 0 else []
    config = folder / "jupyterhub_config.py"
    names = {"port": port, "hub": hub, "api": api, "proxy": options.proxy, "args": args}
    names |= {"homes": str(homes), "shared": str(shared), "token": token}
    config.write_text(CONFIG.format(python=sys.executable, **names), encoding="utf-8")
    log = (folder / "hub.log").open("w", encoding="utf-8")
    command = [sys.executable, "-m", "jupyterhub", "-f", str(config)]
    hub_process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    base, peaks, finished = (
        f"http://127.0.0.1:{port}",
        dict.fromkeys(STUDENTS, 0),
        asyncio.Event(),
    )

    async def up():
        try:
            return await ask(f"{base}/hub/api/", token)
        except OSError:
            return False
        except Exception:  # the proxy is up, the hub not yet
            return False

    try:
        await until(up, "the hub")
        watching = asyncio.create_task(measure(peaks, finished))
        with tqdm(total=len(STUDENTS) * len(cells), desc="cells") as bar:
            studies = (study(base, student, token, cells, bar) for student in STUDENTS)
            results = await asyncio.gather(*studies)
        finished.set()
        await watching
    except BaseException:
        print((folder / "hub.log").read_text(encoding="utf-8")[-5000:])
        raise
    finally:
        hub_process.terminate()  # stops the servers and the proxy, too
        hub_process.wait(60)
        log.close()
    for student, (seconds, errors, answers, total) in zip(STUDENTS, results, strict=True):
        right, threads, where, wrote = answers
        print(
            f"{student}: server after {seconds:.0f} s, {len(cells)} cells after {total:.0f} s, "
            f"{len(errors)} errors {errors[:2]}, at most {peaks[student]:.0f} MB; check says "
            f"{right}, {threads} thread, library in the shared install "
            f"{Path(where).is_relative_to(shared)}, could write there {wrote}"
        )
    # What a student has changed survives the next handout.
    mine = homes / STUDENTS[0] / "course" / "chapters" / path.name
    changed = mine.read_text(encoding="utf-8").replace("answer = ...", "answer = 1")
    mine.write_text(changed, encoding="utf-8")
    (repository / "chapters" / "new.md").write_text("new", encoding="utf-8")
    git(repository, "add", "-A")
    git(repository, "commit", "-m", "next handout")
    done = pull(repository, homes / STUDENTS[0])
    kept = mine.read_text(encoding="utf-8") == changed
    arrived = (mine.parent / "new.md").exists()
    print(
        f"second pull: exit {done.returncode}, own answer kept {kept}, new page there {arrived}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxy", default="configurable-http-proxy")
    parser.add_argument("--chapter", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hub-"))
    try:
        asyncio.run(serve(options, folder))
    finally:
        for path in folder.glob("shared/**/"):
            path.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
