"""Real PostgreSQL and Redis servers, each in a folder of its own and on a port that was free.

They listen on a Unix socket, and on 127.0.0.1. A server ends with its context, or with this process.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SECONDS_TO_START = 15.0
ATTEMPTS = 3  # to start a server on a port that nobody took in the meantime
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C",
}  # logs are read, in English


class Daemon(NamedTuple):
    """Where a server listens."""

    folder: Path  # with its Unix socket
    port: int
    tls_port: int  # 0 if it cannot do TLS


def find_program(name: str, *folders: str) -> str | None:
    """The path of a program: from PATH, or else the last of those in folders, which may be patterns."""
    found = sorted(path for folder in folders for path in glob.glob(f"{folder}/{name}"))
    return shutil.which(name) or (found[-1] if found else None)


def unprivileged() -> dict[str, Any]:
    """Popen's arguments to start a server that refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def own_folder(certificate: Any, owner: dict[str, Any]) -> Iterator[Path]:
    """A folder with a short name that holds copies of the certificate; everything is the owner's."""
    with tempfile.TemporaryDirectory(prefix="hoop-") as name:
        folder = Path(name)
        for source, copy in zip(certificate, ("cert.pem", "key.pem"), strict=True):
            shutil.copyfile(source, folder / copy)
            (folder / copy).chmod(0o600)
        if owner:
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner["user"], owner["group"])
        yield folder


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def start(command: list[str], folder: Path, ready: str, owner: dict[str, Any]) -> Any:
    """Start a server, and wait until its log says that it is ready. None if it ended instead."""
    if ends_with_us := shutil.which("setpriv"):
        command = [ends_with_us, "--pdeathsig", "INT", *command]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **owner,
        )
    deadline = time.monotonic() + SECONDS_TO_START
    while ready not in (folder / "log").read_text(errors="replace"):
        if process.poll() is not None:
            return None
        if time.monotonic() > deadline:
            stop(process)
            raise TimeoutError((folder / "log").read_text(errors="replace"))
        time.sleep(0.01)
    return process


def stop(process: Any) -> None:
    """End a server, at once if it does not by itself."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis(program: str, certificate: Any) -> Iterator[Daemon]:
    """A Redis server that keeps nothing on disk, on redis.sock and on a port, with TLS on another."""
    with own_folder(certificate, {}) as folder:
        tls = True
        for _ in range(ATTEMPTS):
            daemon = Daemon(folder, free_port(), free_port() if tls else 0)
            options = {
                "bind": "127.0.0.1",
                "port": daemon.port,
                "unixsocket": folder / "redis.sock",
                "save": "",
                "appendonly": "no",
                "dir": folder,
            }
            if tls:
                options |= {
                    "tls-port": daemon.tls_port,
                    "tls-cert-file": folder / "cert.pem",
                    "tls-key-file": folder / "key.pem",
                    "tls-auth-clients": "no",
                }
            command = [word for key, value in options.items() for word in (f"--{key}", str(value))]
            process = start([program, *command], folder, "eady to accept connections", {})
            if process:
                break
            if "tls-port" in (folder / "log").read_text():
                tls = False  # built without
        else:
            raise RuntimeError((folder / "log").read_text())
        try:
            yield daemon
        finally:
            stop(process)


@contextlib.contextmanager
def postgres(program: str, certificate: Any, password: str) -> Iterator[Daemon]:
    """A new PostgreSQL cluster with the superuser and the database hoop; TLS is spoken on its port."""
    owner = unprivileged()
    with own_folder(certificate, owner) as folder:
        data = folder / "data"
        (folder / "password").write_text(password)
        initialise = [str(Path(program).resolve().with_name("initdb")), "-D", str(data)]
        initialise += ["-U", "hoop", "-A", "scram-sha-256", "--pwfile", str(folder / "password")]
        initialise += ["-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            initialise, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, **owner
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": str(folder / "cert.pem"),
            "ssl_key_file": str(folder / "key.pem"),
        }
        for _ in range(ATTEMPTS):
            port = free_port()
            command = [program, "-D", str(data), "-p", str(port)]
            for key, value in settings.items():
                command += ["-c", f"{key}={value}"]
            process = start(command, folder, "ready to accept connections", owner)
            if process:
                break
        else:
            raise RuntimeError((folder / "log").read_text())
        try:
            yield Daemon(folder, port, port)
        finally:
            stop(process)
