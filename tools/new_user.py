"""Does what docs/frameworks.md says, as a new user would: installs hoop and one framework, and runs its line.

    python tools/new_user.py                        every framework, on each Python from 3.11 on that is here
    python tools/new_user.py --framework uvicorn --python /usr/bin/python3.13 --wheels dist

Each environment has hoop's wheel and one framework, both installed from wheels. The tests of
tests/frameworks/test_documented.py then run the page's lines with that environment's programs, and look at
`repr(loop)` in the process. They run in this Python, which needs pytest. `--write` puts the table of versions
into the page. `make new-user` runs this with the tools that it needs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from wheels import ROOT, find_pythons, run

TESTS = "tests/frameworks/test_documented.py"
PAGE = ROOT / "docs" / "frameworks.md"
HEADING = "## What was tried\n"


class Framework(NamedTuple):
    """A row of the table: what a user installs, and which tests run the page's lines for it."""

    packages: str  # the first is the one whose version is shown
    tests: str  # an expression for pytest -k


FRAMEWORKS = {
    "uvicorn": Framework("uvicorn", "test_uvicorn"),
    "uvicorn with uvloop": Framework("uvicorn uvloop", "test_uvicorn"),
    "FastAPI": Framework("fastapi uvicorn httpx", "test_fastapi"),
    "Django": Framework("django uvicorn", "test_django"),
    "gunicorn, UvicornWorker": Framework(
        "gunicorn uvicorn uvicorn-worker", "test_gunicorn and not AsgiWorker and not AiohttpWorker"
    ),
    "gunicorn, AsgiWorker": Framework("gunicorn", "test_gunicorn and AsgiWorker"),
    "gunicorn, AiohttpWorker": Framework("gunicorn aiohttp", "test_gunicorn and AiohttpWorker"),
    "hypercorn": Framework("hypercorn", "test_hypercorn"),
    "granian": Framework("granian", "test_granian"),
    "aiohttp": Framework("aiohttp", "test_aiohttp"),
    "pytest-asyncio": Framework("pytest-asyncio", "test_pytest_asyncio or test_plugin and asyncio"),
    "anyio's pytest plugin": Framework(
        "anyio pytest", "test_anyio_ or test_plugin and not asyncio"
    ),
    "anyio": Framework("anyio", "test_anyio and not test_anyio_"),
    "unittest": Framework("", "test_unittest"),
    "Jupyter": Framework("ipykernel", "test_jupyter"),
    "Dask": Framework("distributed", "test_dask"),
    "Ray": Framework("ray", "test_ray"),
    "Celery": Framework("celery", "test_celery"),
    "taskiq": Framework("taskiq", "test_taskiq"),
    "arq": Framework("arq", "test_arq"),
}


def install(python: Path, *packages: str | Path) -> str:
    """Install packages into an environment, wheels only. Returns why that failed, or ""."""
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--only-binary"]
    done = subprocess.run(
        [str(part) for part in (*command, ":all:", *packages)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    missing = re.search(r"No matching distribution found for ([\w.-]+)", done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return f"no wheel of {missing[1]}" if missing else " ".join(errors[-1:]) or done.stderr


def version_of(python: Path, package: str) -> str:
    """The version of an installed package."""
    return run(
        python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"
    ).strip()


def attempt(python: str, wheel: Path, framework: Framework, work: Path) -> tuple[bool, str]:
    """Try a framework in a new environment. Returns whether nothing is wrong, and what to say of it."""
    home = work / "environment"
    run(python, "-m", "venv", "--clear", "--without-pip", home)
    inside = home / "bin" / "python"
    packages = framework.packages.split()
    if why := install(inside, wheel, *packages):
        return why.startswith("no wheel"), why
    report = work / "report.xml"
    report.unlink(missing_ok=True)
    tests = [TESTS, "-k", framework.tests, "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=ROOT,
        env={**os.environ, "HOOP_TRIED_PYTHON": str(inside)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not report.exists():
        return False, done.stdout + done.stderr
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = [
        f"{case.get('name')}: {why.get('message')}"
        for case in cases
        for why in case.iter("skipped")
    ]
    if done.returncode or len(skipped) == len(cases):
        return False, "\n".join([done.stdout, *skipped])
    version = version_of(inside, packages[0]) if packages else "works"
    return True, "; ".join([version, *skipped])


def find_wheel(folder: Path, version: str) -> Path:
    """The wheel for a Python's version, such as 3.13, among those of a folder."""
    tag = f"cp{version.replace('.', '')}"
    found = sorted(folder.glob(f"hoop-*-{tag}-{tag}-*.whl"))
    if not found:
        sys.exit(f"{folder} has no wheel of hoop for Python {version}")
    return found[-1]


def table(results: dict[str, dict[str, str]], pythons: list[str]) -> str:
    """The rows in Markdown: a framework's version for each Python, or why there is none."""
    lines = ["| framework | " + " | ".join(f"Python {version}" for version in pythons) + " |"]
    lines.append("| --- |" + " --- |" * len(pythons))
    for name, row in results.items():
        cells = (row[version].partition(";")[0] for version in pythons)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Put the table into the page, in the place of the one that is there."""
    before, heading, after = PAGE.read_text().partition(HEADING)
    if not heading:
        sys.exit(f"{PAGE} has no heading {HEADING!r}")
    PAGE.write_text(
        before + heading + re.sub(r"(?:^\|.*\n)+", lambda _: text, after, count=1, flags=re.M)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", action="append", help="a Python to try (may be repeated)")
    parser.add_argument("--framework", action="append", choices=FRAMEWORKS, help="only this one")
    parser.add_argument(
        "--wheels", type=Path, help="a folder with wheels of hoop, instead of new ones"
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    pythons = {
        run(path, "-c", ask).strip(): path for path in options.python or ()
    } or find_pythons()
    results: dict[str, dict[str, str]] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="hoop-user-") as folder:
        work = Path(folder)
        wheels = options.wheels
        if wheels is None:
            wheels = work / "wheels"
            chosen = [word for path in pythons.values() for word in ("--python", path)]
            run(sys.executable, ROOT / "tools" / "wheels.py", "--once", "--out", wheels, *chosen)
        for version, python in pythons.items():
            wheel = find_wheel(wheels, version)
            for name in options.framework or FRAMEWORKS:
                good, said = attempt(python, wheel, FRAMEWORKS[name], work)
                failed = failed or not good
                print(
                    f"{version}  {name}: {said}" if good else f"{version}  {name} FAILED\n{said}",
                    flush=True,
                )
                results.setdefault(name, {})[version] = said if good else "fails"
                shutil.rmtree(work / "environment", ignore_errors=True)
    text = table(results, list(pythons))
    print(text)
    if options.write:
        write(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
