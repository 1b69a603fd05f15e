"""`hoop doctor`: what runs here and why, and the line by which each framework found here uses hoop.

`hoop doctor --json` prints the same as JSON, for reports of bugs and for scripts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import sys
from collections.abc import Sequence
from typing import Any

import hoop

if sys.platform == "linux":
    from hoop.drivers import capabilities

# Package -> the line that makes it use hoop, as in docs/frameworks.md.
FRAMEWORKS = {
    "uvicorn": "uvicorn app:app --loop hoop:EventLoop",
    "gunicorn": "gunicorn app:app --worker-class hoop.workers.UvicornWorker",
    "hypercorn": "hoop.run(serve(app, config))",
    "granian": 'loops.register("asyncio")(hoop.new_event_loop)',
    "aiohttp": "web.run_app(make_app(), loop=hoop.new_event_loop())",
    "django": "uvicorn mysite.asgi:application --loop hoop:EventLoop",
    "pytest-asyncio": 'pytest_plugins = "hoop.testing"',
    "anyio": 'anyio.run(main, backend_options={"loop_factory": hoop.new_event_loop})',
    "ipykernel": '"argv": ["python", "-m", "hoop", "--no-names", "-m", "ipykernel_launcher"',
    "distributed": "hoop.run(main())",
    "ray": '"worker_process_setup_hook": use_hoop',
    "celery": "return hoop.run(fetch(url))",
    "taskiq": "await run_receiver_task(broker)",
    "arq": "asyncio.set_event_loop(hoop.new_event_loop())",
}
# Packages that choose or change the loop themselves.
OTHERS = {
    "uvloop": "hoop.install() in place of uvloop.install(), and hoop.run() of uvloop.run()",
    "nest-asyncio": "not on hoop, whose loop does not run within itself. Use await instead",
}
VARIABLES = (
    "HOOP_DRIVER",
    "HOOP_SPIN_US",
    "HOOP_FILE_THREADS",
    "HOOP_INSTALL",
    "HOOP_OBSERVE",
    "HOOP_URING_WITHOUT",
)


def limit(which: int) -> list[int | str]:
    """A resource limit, soft and hard; "unlimited" for none."""
    return [
        "unlimited" if value == resource.RLIM_INFINITY else value
        for value in resource.getrlimit(which)
    ]


def seccomp() -> str:
    """Whether a filter decides which system calls this process may make, as in most containers."""
    modes = {"0": "no filter", "1": "strict", "2": "a filter"}
    try:
        with open("/proc/self/status") as status:
            found = [line.split()[1] for line in status if line.startswith("Seccomp:")]
    except OSError:
        found = []
    return modes.get(found[0], found[0]) if found else "unknown"


def explain_refusal(reason: str) -> str:
    """Say what refuses io_uring and what to do about it, from the kernel's answer and its settings."""
    disabled = capabilities.io_uring_disabled()
    if disabled in ("1", "2"):
        who = "only members of a group" if disabled == "1" else "nobody"
        return f"the sysctl kernel.io_uring_disabled={disabled} lets {who} use it; 0 lets all"
    if "Operation not permitted" in reason and seccomp() == "a filter":
        return "a seccomp filter refuses it; allow the io_uring_* calls in the container's profile"
    if "Cannot allocate memory" in reason:
        return "too little memory may be locked; raise it by ulimit -l, or LimitMEMLOCK= of systemd"
    if "Function not implemented" in reason:
        return "this kernel, or the sandbox that stands for one, has no io_uring"
    if "too old" in reason or "no operation" in reason:
        return "a newer kernel has what hoop needs"
    return "only the kernel's answer is known"


def look_at_driver() -> dict[str, Any]:
    """The driver of a new loop, by making one, and the reason if it is not io_uring."""
    found: dict[str, Any] = {"asked for": os.environ.get("HOOP_DRIVER") or None}
    try:
        loop = hoop.new_event_loop()
    except (OSError, ValueError) as exc:
        return found | {"name": None, "reason": str(exc)}
    found["name"] = loop.driver
    try:
        loop.run_until_complete(hoop.sleep(0))  # a ring is made now: the kernel may refuse it yet
        if loop.driver != found["name"]:
            found |= {
                "name": loop.driver,
                "reason": "the kernel refused a loop its ring",
                "advice": explain_refusal("Cannot allocate memory"),
            }
    finally:
        loop.close()
    if found["asked for"] == "epoll":
        return found | {"reason": "HOOP_DRIVER asks for epoll"}  # then io_uring is not even tried
    reason = capabilities.why_not()
    if reason is not None:
        return found | {"reason": reason, "advice": explain_refusal(reason)}
    return found | {"io_uring": capabilities.list_capabilities()}


def look_at_frameworks() -> list[dict[str, str]]:
    """The frameworks that are installed here, each with its version and its line."""
    found = []
    for name, line in (FRAMEWORKS | OTHERS).items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append({"name": name, "version": version, "use": line})
    return found


def examine() -> dict[str, Any]:
    """Look at everything that decides how hoop runs here."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    report: dict[str, Any] = {
        "hoop": hoop.__version__,
        "place": os.path.dirname(hoop.__file__),
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
            "gil": gil,
        },
        "system": {
            "name": sys.platform,
            "kernel": platform.release(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "libc": " ".join(platform.libc_ver()).strip(),
        },
    }
    if sys.platform == "linux":
        report["system"]["processors usable"] = len(os.sched_getaffinity(0))
        report["driver"] = look_at_driver()
        report["seccomp"] = seccomp()
        report["io_uring_disabled"] = capabilities.io_uring_disabled()
        report["limits"] = {
            "nofile": limit(resource.RLIMIT_NOFILE),
            "memlock": limit(resource.RLIMIT_MEMLOCK),
        }
    else:
        report["driver"] = {"name": None, "reason": "hoop's own event loop needs Linux"}
    report["environment"] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    report["frameworks"] = look_at_frameworks()
    return report


def lines(report: dict[str, Any]) -> list[str]:
    """The report as text."""
    python, system, driver = report["python"], report["system"], report["driver"]
    text = [
        f"hoop {report['hoop']} in {report['place']}",
        f"Python     {python['version']} ({python['implementation']}"
        f"{'' if python['gil'] else ', without the GIL'}), {python['executable']}",
        f"system     {system['name']} {system['kernel']}, {system['machine']}, {system['libc']}, "
        f"{system.get('processors usable', system['processors'])} processors",
        f"driver     {driver['name'] or 'none, so hoop makes no loop here'}",
    ]
    if "reason" in driver:
        text.append(f"  because  {driver['reason']}")
    if "advice" in driver:
        text.append(f"           {driver['advice']}")
    if "io_uring" in driver:
        has = [name for name, there in driver["io_uring"].items() if there]
        lacks = [name for name, there in driver["io_uring"].items() if not there]
        text.append(
            f"  io_uring has {', '.join(has) or 'none'}; lacks {', '.join(lacks) or 'nothing'}"
        )
    if "limits" in report:
        text.append(f"seccomp    {report['seccomp']}")
        disabled = report["io_uring_disabled"] or "is not there"
        text.append(f"sysctl     kernel.io_uring_disabled {disabled}")
        for name, (soft, hard) in report["limits"].items():
            text.append(f"limit      {name} {soft} (at most {hard})")
    for name, value in report["environment"].items():
        text.append(f"variable   {name}={value}")
    text.append("" if report["frameworks"] else "no framework that hoop knows is installed here")
    for found in report["frameworks"]:
        text.append(f"{found['name']} {found['version']}\n    {found['use']}")
    if report["frameworks"]:
        text.append(
            "docs/frameworks.md has the place of each line, and the oldest version that takes it"
        )
    text += ["", "any program\n    python -m hoop program.py, or hoop.install() in its first line"]
    return text


def main(arguments: Sequence[str]) -> int:
    """Print the report. The exit status is 0 if hoop's loop runs here, and 1 if not."""
    parser = argparse.ArgumentParser("hoop doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    report = examine()
    print(json.dumps(report, indent=2) if options.json else "\n".join(lines(report)))
    return 0 if report["driver"]["name"] else 1
