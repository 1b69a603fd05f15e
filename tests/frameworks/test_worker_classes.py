"""hoop.workers: the classes that gunicorn is told of, and what they say if something is missing."""

import pytest

MISSING = {
    "UvicornWorker": ["gunicorn", "uvicorn"],
    "AsgiWorker": ["gunicorn"],
    "AiohttpWorker": ["gunicorn", "aiohttp"],
}
CASES = [(worker, package) for worker, packages in MISSING.items() for package in packages]

WITHOUT = """
    import sys
    for name in {without}:
        sys.modules[name] = None
    import hoop.workers
    try:
        hoop.workers.{worker}
    except ImportError as exc:
        print(exc)
"""


@pytest.mark.parametrize(("worker", "package"), CASES)
def test_says_which_package_is_missing(python, worker, package):
    if package != "gunicorn":
        pytest.importorskip("gunicorn")
    said = python(WITHOUT.format(without=[package], worker=worker))
    assert said.startswith(f"hoop.workers.{worker} needs {package}")
    assert f"pip install {package}" in said


def test_says_that_the_worker_of_uvicorn_is_missing(python):
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn")
    said = python(
        WITHOUT.format(without=["uvicorn_worker", "uvicorn.workers"], worker="UvicornWorker")
    )
    assert said.startswith("hoop.workers.UvicornWorker needs uvicorn-worker")


def test_says_that_uvicorn_is_too_old(python):
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn")
    said = python("""
        import uvicorn.config
        del uvicorn.config.Config.get_loop_factory
        try:
            from hoop.workers import UvicornWorker
        except ImportError as exc:
            print(exc)
    """)
    assert "needs uvicorn 0.36 or later" in said


def test_takes_the_worker_in_uvicorn_if_there_is_no_other(python):
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn.workers")
    said = python(
        """
        import sys
        sys.modules["uvicorn_worker"] = None
        import hoop.workers
        print(hoop.workers.UvicornWorker.__mro__[1].__module__)
        print(hoop.workers.UvicornWorker.CONFIG_KWARGS["loop"])
        """,
        *("-W", "ignore"),
    )
    assert said.split() == ["uvicorn.workers", "hoop:EventLoop"]


def test_knows_no_other_worker(python):
    said = python("""
        import hoop.workers
        print(hasattr(hoop.workers, "SyncWorker"), set(hoop.workers.__all__) <= set(dir(hoop.workers)))
    """)
    assert said.split() == ["False", "True"]


@pytest.mark.parametrize("worker", MISSING)
def test_is_made_once_under_its_name(python, worker):
    pytest.importorskip("gunicorn")
    for package in MISSING[worker]:
        pytest.importorskip(package)
    said = python(f"""
        import hoop.workers
        from hoop.workers import {worker}
        print({worker} is hoop.workers.{worker}, {worker}, bool({worker}.__doc__))
    """)
    assert said.strip() == f"True <class 'hoop.workers.{worker}'> True"
