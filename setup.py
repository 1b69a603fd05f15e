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
C_FILES = Path(f"build/cython-{MODE}")


class BuildExt(build_ext):
    """Compiles the extensions side by side, one job per processor."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = JOBS


def core_extensions() -> list[Extension]:
    """One extension per module of the core; all are rebuilt when a header or this file changes."""
    shared = ["setup.py", *(str(path) for path in sorted(CORE.glob("c/*.h")))]
    return [
        Extension(
            f"hoop._core.{path.stem}",
            [str(path)],
            include_dirs=[str(CORE / "c")],
            depends=shared,
            extra_compile_args=CFLAGS + WARNINGS,
            extra_link_args=LDFLAGS,
        )
        for path in sorted(CORE.glob("*.py"))
        if path.name != "__init__.py"
    ]


def directives_changed() -> bool:
    """Whether C files are left that an older version of this file made: Cython would keep them."""
    changed = Path(__file__).stat().st_mtime
    made = [C_FILES / path.with_suffix(".c") for path in CORE.glob("*.py")]
    return any(path.exists() and path.stat().st_mtime < changed for path in made)


def main() -> None:
    """Build, as pip or the command line asks."""
    setup(
        cmdclass={"build_ext": BuildExt},
        # One folder per mode, or an installation would take extensions of another mode for its own.
        options={"build": {"build_base": f"build/{MODE}"}},
        ext_modules=cythonize(
            core_extensions(),
            include_path=["src"],
            nthreads=JOBS,
            compiler_directives=DIRECTIVES,
            build_dir=str(C_FILES),
            force=directives_changed(),
            annotate=bool(os.environ.get("HOOP_ANNOTATE")),
            emit_linenums=False,
        ),
    )


if __name__ == "__main__":  # cythonize's processes import this file, from Python 3.14 on
    main()
