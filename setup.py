"""Only what pyproject.toml cannot say: how the compiled core is built.

`HOOP_BUILD` picks the build: `release` (default), `debug` (C assertions on, no optimisation) or
`asan` (AddressSanitizer and UndefinedBehaviorSanitizer).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODE = os.environ.get("HOOP_BUILD", "release")
JOBS = os.cpu_count() or 1
CORE = Path("src/hoop/_core")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "binding": False,
    "auto_pickle": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
}
WARNINGS = ["-Wall", "-Wno-unused-function", "-Wno-unused-variable"]
FLAGS = {
    "release": (["-O2", "-g1", "-fvisibility=hidden"], []),
    "debug": (["-O0", "-g3", "-UNDEBUG", "-DHOOP_DEBUG"], []),
    "asan": (
        ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-DHOOP_DEBUG"],
        ["-fsanitize=address,undefined"],
    ),
}
CFLAGS, LDFLAGS = FLAGS[MODE]


class BuildExt(build_ext):
    """Compiles the extensions side by side, one job per processor."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = JOBS


def core_extensions() -> list[Extension]:
    """One extension per module of the core; each is rebuilt when a shared header changes."""
    headers = [str(path) for path in sorted(CORE.glob("c/*.h"))]
    return [
        Extension(
            f"hoop._core.{path.stem}",
            [str(path)],
            include_dirs=[str(CORE / "c")],
            depends=headers,
            extra_compile_args=CFLAGS + WARNINGS,
            extra_link_args=LDFLAGS,
        )
        for path in sorted(CORE.glob("*.py"))
        if path.name != "__init__.py"
    ]


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=cythonize(
        core_extensions(),
        include_path=["src"],
        nthreads=JOBS,
        compiler_directives=DIRECTIVES,
        build_dir=f"build/cython-{MODE}",
        annotate=bool(os.environ.get("HOOP_ANNOTATE")),
        emit_linenums=False,
    ),
)
