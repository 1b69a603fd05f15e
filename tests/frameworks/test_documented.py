"""docs/frameworks.md, line by line: what it tells the reader to write serves on hoop.

Each server is a process of its own, which answers with its loop. The servers listen on a Unix socket, by an
option that the tests add to the line. The processes run this Python, or that of the environment variable
HOOP_TRIED_PYTHON, which has its own hoop: see tools/new_user.py.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import daemons
import documented
import pytest
from answering import ON_HOOP

import hoop

HERE = Path(__file__).parent
PYTHON = os.environ.get("HOOP_TRIED_PYTHON", sys.executable)
SOURCE = [str(Path(hoop.__file__).parent.parent)] if sys.executable == PYTHON else []
PATHS = [*SOURCE, str(HERE)]
LIMIT = float(os.environ.get("HOOP_TIME_LIMIT", "20")) - 2  # seconds for one process
STOCK = "_UnixSelectorEventLoop"
ASGI = "from answering import application as app\n"


def need(*modules: str) -> None:
    """Skip a test whose packages are not installed."""
    for module in modules:
        if not has(module):
            pytest.skip(f"there is no {module}")


@functools.cache
def has(module: str) -> bool:
    """Whether a module or package is installed."""
    look = f"import importlib.util as u; print(u.find_spec({module!r}))"
    return "ModuleSpec" in ask_python("-c", look)


@functools.cache
def version() -> tuple[int, ...]:
    """The version of the Python that runs the frameworks."""
    return tuple(map(int, ask_python("-c", "import sys; print(*sys.version_info[:2])").split()))


def ask_python(*args: str) -> str:
    return subprocess.run([PYTHON, *args], capture_output=True, text=True, check=False).stdout


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The variables of a process that finds hoop, the applications and the files of its folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, str(folder)]), **more}


def python(folder: Path, *args: str, status: int = 0, **more: str) -> str:
    """Run Python in a folder, and return what it wrote."""
    done = subprocess.run(
        [PYTHON, *args],
        cwd=folder,
        env=environment(folder, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@contextlib.contextmanager
def running(folder: Path, *command: str) -> Iterator[Path]:
    """Run a command in a folder until the context ends. Gives its log."""
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(where: Path, log: Path, path: str = "/") -> str:
    """Ask the server that listens there, as soon as it does, and return the body of its answer."""
    deadline = time.monotonic() + LIMIT * 2 / 3
    while True:
        with socket.socket(socket.AF_UNIX) as sock, http.client.HTTPResponse(sock) as response:
            sock.settimeout(5)
            try:
                sock.connect(str(where))
                sock.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
                )
                response.begin()
            except (FileNotFoundError, ConnectionError):
                pass  # the server is not there yet
            else:
                assert response.status == 200, log.read_text()
                return response.read().decode().strip('"')
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def served(folder: Path, line: str, *options: str, path: str = "/") -> str:
    """Start the server of a documented line, ask it for its loop, and end it."""
    command, *words = shlex.split(line)
    with running(folder, str(Path(PYTHON).parent / command), *words, *options) as log:
        return ask(folder / "s", log, path)


def served_by(folder: Path, name: str, address: str, unix: str) -> str:
    """Start a documented program on a Unix socket instead, ask it for its loop, and end it."""
    program = (folder / name).read_text()
    (folder / name).write_text(program.replace(address, unix))
    with running(folder, PYTHON, name) as log:
        return ask(folder / "s", log)


# ---- servers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_uvicorn(tmp_path, workers):
    need("uvicorn")
    [line] = documented.write("uvicorn", tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    assert served(tmp_path, line, "--uds", "s", "--workers", workers) == ON_HOOP


def test_uvicorn_rolled_back_serves_on_another_loop(tmp_path):
    """The applications tell the loops apart, and importing hoop does not choose one."""
    need("uvicorn")
    [line] = documented.write("uvicorn", tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    rolled_back = line.replace(" --loop hoop:EventLoop", " --loop asyncio")
    assert rolled_back != line
    assert served(tmp_path, rolled_back, "--uds", "s") == STOCK


WARNING = "hoop is installed, but your program runs another loop: it has made a "


def served_and_said(folder: Path, line: str) -> tuple[str, bool]:
    """The loop that serves, and whether the log says that it is not hoop's."""
    (folder / "app.py").write_text(ASGI)
    options = () if line.endswith(".py") else ("--uds", "s")
    answer = served(folder, line, *options)
    return answer, WARNING in (folder / "log").read_text()


@pytest.mark.parametrize("option", ["", " --loop auto", " --loop asyncio"])
def test_uvicorn_that_chooses_itself(tmp_path, option):
    """It takes uvloop or asyncio's loop, and only where hoop is installed can somebody say so."""
    need("uvicorn")
    chosen = "uvloop.Loop" if has("uvloop") and "asyncio" not in option else STOCK
    assert served_and_said(tmp_path, f"uvicorn app:app{option}") == (chosen, False)
    assert served_and_said(tmp_path, f"hoop run -m uvicorn app:app{option}") == (chosen, True)


def test_uvicorn_that_leaves_the_choice_to_asyncio(tmp_path):
    need("uvicorn")
    line = "python -m hoop -m uvicorn app:app --loop none"
    assert f"`{line}`" in documented.PAGE.read_text()
    assert served_and_said(tmp_path, line) == (ON_HOOP, False)


@pytest.mark.parametrize("loop", ["auto", "none", "hoop:EventLoop"])
def test_uvicorn_in_a_program_after_install(tmp_path, loop):
    need("uvicorn")
    chosen = ON_HOOP if loop != "auto" else "uvloop.Loop" if has("uvloop") else STOCK
    (tmp_path / "serve.py").write_text(
        f"import hoop, uvicorn\nhoop.install()\nuvicorn.run('app:app', uds='s', loop={loop!r})\n"
    )
    assert served_and_said(tmp_path, "python serve.py") == (chosen, loop == "auto")


def test_uvicorn_whose_application_installs_hoop(tmp_path):
    """Its loop runs already when it imports the application."""
    need("uvicorn")
    (tmp_path / "late.py").write_text(f"import hoop\nhoop.install()\n{ASGI}")
    answer, said = served_and_said(tmp_path, "uvicorn late:app")
    assert answer != ON_HOOP
    assert said


def test_uvicorn_in_a_program(tmp_path):
    need("uvicorn")
    documented.write("uvicorn", tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    assert served_by(tmp_path, "serve.py", "loop=", "uds='s', loop=") == ON_HOOP


def test_uvicorn_awaited(tmp_path):
    """The line for versions that take no loop by its name."""
    need("uvicorn")
    line = "hoop.run(uvicorn.Server(uvicorn.Config(app)).serve())"
    assert line in documented.PAGE.read_text()
    line = line.replace("(app)", "(app, uds='s')")
    (tmp_path / "serve.py").write_text(f"import hoop, uvicorn\n{ASGI}{line}\n")
    with running(tmp_path, PYTHON, "serve.py") as log:
        assert ask(tmp_path / "s", log) == ON_HOOP


def test_fastapi(tmp_path):
    need("uvicorn", "fastapi")
    [line] = documented.write("FastAPI", tmp_path)
    (tmp_path / "app.py").write_text("import answering\n\napp = answering.make_fastapi()\n")
    assert served(tmp_path, line, "--uds", "s") == ON_HOOP


def test_fastapi_under_its_test_client(tmp_path):
    need("fastapi", "httpx")
    line = 'TestClient(app, backend_options={"loop_factory": hoop.new_event_loop})'
    assert line in documented.PAGE.read_text()
    program = f"""
        import hoop, answering
        from fastapi.testclient import TestClient
        app = answering.make_fastapi()
        print({line}.get("/").json())
    """
    assert ON_HOOP in python(tmp_path, "-W", "ignore", "-c", "if 1:" + program)


@pytest.mark.parametrize("path", ["/", "/synchronous"])
def test_django(tmp_path, path):
    need("uvicorn", "django")
    [line] = documented.write("Django", tmp_path)
    (tmp_path / "mysite").mkdir()
    program = "import answering\n\napplication = answering.make_django()\n"
    (tmp_path / "mysite" / "asgi.py").write_text(program)
    assert served(tmp_path, line, "--uds", "s", path=path) == ON_HOOP


def test_django_command(tmp_path):
    """A management command whose loop is made by async_to_sync."""
    need("django")
    assert "`python -m hoop manage.py COMMAND`" in documented.PAGE.read_text()
    program = """
        import answering, django
        from asgiref.sync import async_to_sync
        from django.conf import settings
        from django.core import management

        settings.configure()
        django.setup()

        class Command(management.BaseCommand):
            def handle(self, **options):
                async def main():
                    print(answering.which_loop())

                async_to_sync(main)()

        management.call_command(Command())
    """
    (tmp_path / "manage.py").write_text(textwrap.dedent(program))
    assert python(tmp_path, "-m", "hoop", "manage.py").strip() == ON_HOOP


WORKERS = {
    "UvicornWorker": ["uvicorn", "uvicorn_worker"],
    "AsgiWorker": ["gunicorn.workers.gasgi"],
    "AiohttpWorker": ["aiohttp"],
}


@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn(tmp_path, worker):
    need("gunicorn", *WORKERS[worker])
    [line] = [line for line in documented.write("gunicorn", tmp_path) if worker in line]
    (tmp_path / "app.py").write_text(ASGI)
    (tmp_path / "views.py").write_text("from answering import make_app\n")
    assert served(tmp_path, line, "--bind", "unix:s") == ON_HOOP


def test_gunicorn_with_a_worker_of_ones_own(tmp_path):
    need("gunicorn", *WORKERS["UvicornWorker"])
    line = documented.write("gunicorn", tmp_path)[0]
    (tmp_path / "app.py").write_text(ASGI)
    line = line.replace("hoop.workers.UvicornWorker", "own_worker.Worker")
    assert served(tmp_path, line, "--bind", "unix:s") == ON_HOOP


def test_hypercorn(tmp_path):
    need("hypercorn")
    documented.write("hypercorn", tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    assert served_by(tmp_path, "serve.py", "127.0.0.1:8000", "unix:s") == ON_HOOP


def test_granian(tmp_path):
    need("granian")
    documented.write("granian", tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    uds = "workers=2, uds=__import__('pathlib').Path('s')"
    assert served_by(tmp_path, "serve.py", "workers=2", uds) == ON_HOOP


def test_granian_embedded(tmp_path):
    need("granian")
    documented.write("granian", tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    uds = "(app, uds=__import__('pathlib').Path('s'), "
    assert served_by(tmp_path, "embedded.py", "(app, ", uds) == ON_HOOP


def test_aiohttp(tmp_path):
    need("aiohttp")
    documented.write("aiohttp", tmp_path)
    (tmp_path / "views.py").write_text("from answering import make_app\n")
    assert served_by(tmp_path, "serve.py", "loop=", "path='s', loop=") == ON_HOOP


# ---- test frameworks -------------------------------------------------------------------------------

ASYNC_TESTS = """
import asyncio
import pytest
from answering import ON_HOOP, which_loop

@pytest.mark.{mark}
async def test_loop():
    assert which_loop() == ON_HOOP

@pytest.fixture{parentheses}
async def answer():
    await asyncio.sleep(0)
    yield which_loop()

@pytest.mark.{mark}
async def test_fixture(answer):
    assert answer == ON_HOOP
"""


@pytest.fixture
def tests_of(tmp_path):
    """A function that runs one file of tests with some plugins only, and returns pytest's summary."""

    def tests_of(text: str, *plugins: str) -> str:
        (tmp_path / "test_it.py").write_text(text)
        (tmp_path / "pytest.ini").write_text(
            "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
            "filterwarnings =\n    error\n    ignore:Unknown config option:pytest.PytestConfigWarning\n"
        )
        options = [option for plugin in plugins for option in ("-p", plugin)]
        command = ("-m", "pytest", "-q", "test_it.py", *options)
        return python(tmp_path, *command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="")

    return tests_of


def test_pytest_asyncio(tmp_path, tests_of):
    need("pytest_asyncio")
    documented.write("pytest", tmp_path)
    text = ASYNC_TESTS.format(mark="asyncio", parentheses="")
    text = text.replace("pytest.fixture", "pytest_asyncio.fixture")
    assert "2 passed" in tests_of("import pytest_asyncio\n" + text, "pytest_asyncio.plugin")


def test_anyio_plugin(tmp_path, tests_of):
    need("anyio")
    documented.write("pytest", tmp_path)
    text = ASYNC_TESTS.format(mark="anyio", parentheses="(scope='session')")
    assert "2 passed" in tests_of(text, "anyio.pytest_plugin")


@pytest.mark.parametrize("mark", ["asyncio", "anyio"])
def test_plugin_by_an_option_comes_before_the_frameworks(tests_of, mark):
    plugins = {"asyncio": "pytest_asyncio.plugin", "anyio": "anyio.pytest_plugin"}
    need(plugins[mark].partition(".")[0])
    text = ASYNC_TESTS.format(mark=mark, parentheses="")
    if mark == "asyncio":
        text = "import pytest_asyncio\n" + text.replace("pytest.fix", "pytest_asyncio.fix")
    assert "2 passed" in tests_of(text, "hoop.testing", plugins[mark])


def test_plugin_needs_no_other(tmp_path, tests_of):
    documented.write("pytest", tmp_path)
    assert "1 passed" in tests_of("def test_nothing():\n    pass\n")


def test_anyio_backend_of_ones_own_wins(tmp_path, tests_of):
    need("anyio")
    documented.write("pytest", tmp_path)
    own = (tmp_path / "test_on_both.py").read_text().replace(', "trio"]', ', "asyncio"]')
    own += "\n\n@pytest.mark.anyio\nasync def test_it():\n    print('loop:', which_loop())\n"
    options = ("-m", "pytest", "-q", "-s", "test_it.py", "-p", "anyio.pytest_plugin")
    (tmp_path / "test_it.py").write_text("from answering import which_loop\n" + own)
    out = python(tmp_path, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="")
    assert f"loop: {ON_HOOP}" in out
    assert f"loop: {STOCK}" in out


def test_unittest(tmp_path):
    if version() < (3, 13):
        pytest.skip("unittest has loop_factory from 3.13 on")
    documented.write("unittest", tmp_path)
    with open(tmp_path / "test_answer.py", "a") as file:
        file.write(
            "\n    async def test_loop(self):\n"
            "        import answering\n"
            "        self.assertEqual(answering.which_loop(), answering.ON_HOOP)\n"
        )
    assert "Ran 2 tests" in python(tmp_path, "-m", "unittest", "test_answer")


def test_unittest_by_a_policy(tmp_path):
    if version() >= (3, 14):
        pytest.skip("policies are deprecated")
    line = "asyncio.set_event_loop_policy(hoop.EventLoopPolicy())"
    text = (
        f"import asyncio, hoop, unittest, answering\n{line}\n"
        "class Answer(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test_loop(self):\n"
        "        self.assertEqual(answering.which_loop(), answering.ON_HOOP)\n"
    )
    (tmp_path / "test_answer.py").write_text(text)
    assert "Ran 1 test" in python(tmp_path, "-m", "unittest", "test_answer")


# ---- others ----------------------------------------------------------------------------------------


def test_anyio(tmp_path):
    need("anyio")
    documented.write("anyio", tmp_path)
    program = (tmp_path / "main.py").read_text()
    program = program.replace("await anyio.sleep(0)", "print(answering.which_loop())")
    (tmp_path / "main.py").write_text("import answering\n" + program)
    assert python(tmp_path, "main.py").strip() == ON_HOOP


def test_jupyter(tmp_path):
    need("ipykernel", "jupyter_client")
    [spec] = documented.SECTIONS["Jupyter"].json
    kernel = tmp_path / "kernels" / "hoop"
    kernel.mkdir(parents=True)
    spec = json.loads(spec)
    spec["argv"][0] = PYTHON
    (kernel / "kernel.json").write_text(json.dumps(spec))
    program = """
        from jupyter_client import KernelManager
        from jupyter_client.kernelspec import KernelSpecManager

        specs = KernelSpecManager(kernel_dirs=["kernels"])
        manager = KernelManager(kernel_name="hoop", kernel_spec_manager=specs)
        manager.start_kernel()
        try:
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=12)
            for cell in (
                "import answering, hoop; print(answering.which_loop())",
                "await hoop.sleep(0, print('awaited'))",
                "main = hoop.sleep(0)\\ntry: hoop.run(main)\\nexcept RuntimeError as exc: print(exc)",
                "await main",
            ):
                reply = client.execute_interactive(cell, timeout=5)
                assert reply["content"]["status"] == "ok", reply
        finally:
            manager.shutdown_kernel(now=True)
    """
    out = python(tmp_path, "-W", "ignore", "-c", "if 1:" + program)
    assert ON_HOOP in out
    assert "awaited" in out
    assert "In Jupyter, write `await main()` in the cell" in out


def test_dask(tmp_path):
    need("distributed")
    documented.write("Dask", tmp_path)
    program = (tmp_path / "compute.py").read_text()
    shown = "        print(await client.run_on_scheduler(answering.which_loop))\n"
    program = program.replace("        print(await", f"{shown}        print(await", 1)
    (tmp_path / "compute.py").write_text("import answering\n" + program)
    printed = python(tmp_path, "compute.py").split()
    assert printed[:3] == [*ON_HOOP.split(), "6"]  # distributed may log more when it ends


def test_ray(tmp_path):
    need("ray")
    documented.write("Ray", tmp_path)
    program = (tmp_path / "actors.py").read_text()
    program = program.replace("ray.init(", "ray.init(num_cpus=1, include_dashboard=False,")
    program = program.replace(
        "type(asyncio.get_running_loop()).__module__", "answering.which_loop()"
    )
    (tmp_path / "actors.py").write_text("import answering\n" + program)
    assert python(tmp_path, "actors.py").splitlines()[-1] == ON_HOOP


CELERY = """
import answering
app.conf.broker_url = "filesystem://"
app.conf.broker_transport_options = dict.fromkeys(["data_folder_in", "data_folder_out"], "tasks")
app.conf.result_backend = "file://results"
"""


def test_celery(tmp_path):
    """A worker of Celery's in processes of its own, with its messages in files."""
    need("celery")
    documented.write("Celery", tmp_path)
    for folder in ("tasks", "results"):
        (tmp_path / folder).mkdir()
    program = (tmp_path / "tasks.py").read_text()
    program = program.replace("return url\n", "return answering.which_loop()\n", 1)
    (tmp_path / "tasks.py").write_text(program + CELERY)
    ask_it = "import tasks; print(tasks.fetch_page.delay('').get(timeout=12))"
    with running(tmp_path, PYTHON, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "1"):
        out = python(tmp_path, "-c", ask_it)
    assert out.strip() == ON_HOOP


TASKIQ = """
import os, signal, answering, taskiq

class Broker(taskiq.AsyncBroker):
    async def kick(self, message):
        self.kicked = message.message

    async def listen(self):
        await which_loop.kiq()
        yield self.kicked

broker = Broker()

@broker.task
async def which_loop():
    print(answering.which_loop(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_taskiq(tmp_path):
    need("taskiq")
    documented.write("taskiq", tmp_path)
    (tmp_path / "tasks.py").write_text(TASKIQ)
    program = (tmp_path / "work.py").read_text()
    program = program.replace(
        "hoop.run(main())", "try:\n    hoop.run(main())\nexcept KeyboardInterrupt:\n    pass"
    )
    (tmp_path / "work.py").write_text(program)
    assert python(tmp_path, "work.py").splitlines()[0] == ON_HOOP


ARQ = """
import answering, arq

async def startup(ctx):
    await ctx["redis"].enqueue_job("which_loop")

async def which_loop(ctx):
    print(answering.which_loop(), flush=True)

class WorkerSettings:
    burst = True
    functions = [which_loop]
    on_startup = startup
    redis_settings = arq.connections.RedisSettings(port={port})
"""


def test_arq(tmp_path, certificate):
    need("arq")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server; Debian's package is redis-server")
    documented.write("arq", tmp_path)
    with daemons.redis(program, certificate) as server:
        (tmp_path / "jobs.py").write_text(ARQ.format(port=server.port))
        assert ON_HOOP in python(tmp_path, "work.py").splitlines()
