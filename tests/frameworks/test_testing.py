"""hoop.testing: the plugin has what the installed version of pytest-asyncio needs."""

import pytest

LOADED = """
    import importlib.metadata
    def version(package):
        if {version!r} is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return {version!r}
    importlib.metadata.version = version
    import hoop.testing
    print(*[name for name in ("pytest_asyncio_loop_factories", "event_loop_policy", "anyio_backend")
        if hasattr(hoop.testing, name)])
"""


@pytest.mark.parametrize(
    ("version", "has"),
    [
        (None, "pytest_asyncio_loop_factories"),
        ("0.23.8", "event_loop_policy"),
        ("1.3.0", "event_loop_policy"),
        ("1.4.0a1", "pytest_asyncio_loop_factories"),
        ("1.4.0", "pytest_asyncio_loop_factories"),
        ("2.0", "pytest_asyncio_loop_factories"),
    ],
)
def test_has_what_pytest_asyncio_of_that_version_asks_for(python, version, has):
    assert python(LOADED.format(version=version)).split() == [has, "anyio_backend"]
