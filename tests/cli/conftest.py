"""Fixtures for the screens: a server under load to look into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Observed, serving_program


@pytest.fixture(scope="module")
def observed(tmp_path_factory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch, serving_program(folder) as program:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield program
