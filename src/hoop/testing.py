"""A pytest plugin that runs the tests of pytest-asyncio and of anyio on hoop's event loop.

Load it in the `conftest.py` at the root of your tests:

    pytest_plugins = "hoop.testing"

With pytest-asyncio 1.4 or later the plugin implements the hook `pytest_asyncio_loop_factories`. Earlier
versions, from 0.23 on, get the fixture `event_loop_policy`. Tests of anyio get the fixture `anyio_backend`.
The plugin needs neither of the two packages. A hook or fixture of these names in your own `conftest.py` wins.
The option `-p hoop.testing` loads the plugin as well.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import hoop


def _has_loop_factories() -> bool:
    """Tell whether pytest-asyncio, if there is one, asks a hook for its loops."""
    try:
        version = importlib.metadata.version("pytest-asyncio")
    except importlib.metadata.PackageNotFoundError:
        return True
    return tuple(map(int, version.split(".")[:2])) >= (1, 4)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run the tests of anyio's pytest plugin on asyncio, with a hoop loop."""
    return "asyncio", {"loop_factory": hoop.new_event_loop}


if _has_loop_factories():

    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Hand pytest-asyncio the function that makes its loops."""
        return {"hoop": hoop.new_event_loop}

elif sys.version_info < (3, 16):

    @pytest.fixture(scope="session")
    def event_loop_policy() -> Any:
        """Hand pytest-asyncio a policy whose loops are hoop's."""
        return hoop.EventLoopPolicy()


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures once more, after those of plugins that pytest loaded later than this one.

    For example, `-p hoop.testing` loads this plugin first, and the last fixture of a name wins.
    """
    fixtures = types.ModuleType(f"{__name__}.fixtures")
    for name in ("anyio_backend", "event_loop_policy"):
        if name in globals():
            setattr(fixtures, name, globals()[name])
    config.pluginmanager.register(fixtures, fixtures.__name__)
