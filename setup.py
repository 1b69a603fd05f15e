"""Only what pyproject.toml cannot say: how the compiled core is built.

`HOOP_BUILD` picks the build: `release` (default), `debug` (C assertions on, no optimisation, the core's
own frames in tracebacks) or `asan` (AddressSanitizer and UndefinedBehaviorSanitizer).
"""

import os
import re
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODE = os.environ.get("HOOP_BUILD", "release")
JOBS = os.cpu_count() or 1
SOURCE = Path("src")
CORE = "hoop._c.core"  # the shared object with this module has all other compiled modules too

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "binding": False,
    "auto_pickle": False,
    # An exception in a finaliser or a C callback goes to sys.unraisablehook only. With tracebacks
    # Cython calls sys.excepthook first, which ends the process for a SystemExit.
    "unraisable_tracebacks": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
}
WARNINGS = ["-Wall", "-Wno-unused-function", "-Wno-unused-variable"]
FLAGS = {
    "release": (["-O2", "-g1", "-fvisibility=hidden"], []),
    "debug": (["-O0", "-g3", "-UNDEBUG", "-DHOOP_DEBUG"], []),
    "asan": (
        [
            *("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"),
            *("-DHOOP_DEBUG", "-DHOOP_POISON"),
        ],
        ["-fsanitize=address,undefined"],
    ),
}
CFLAGS, LDFLAGS = FLAGS[MODE]
CFLAGS += os.environ.get("HOOP_CFLAGS", "").split()  # gcc takes the last of two that differ
C_FILES = Path(f"build/cython-{MODE}")


# Pairs of a pattern and its replacement, for the C code that Cython writes. The first removes the call that
# adds a traceback entry where an exception leaves a function. Clauses that catch an exception rely on a
# traceback, so the other two let None stand for a missing one.
NO_FRAMES = (
    (re.compile(r'^ *__Pyx_AddTraceback\("(?!init ).*\);\n', re.MULTILINE), ""),
    (
        re.compile(r"if \((__Pyx_GetException\(&\w+, &\w+, &(\w+)\) < 0)\)"),
        r"if (\1 || (!\2 && (\2 = Py_NewRef(Py_None), 0)))",
    ),
    (
        re.compile(r"__Pyx_ErrRestoreWithState\((\w+, \w+), (__pyx_t_\w+)\);"),
        r"__Pyx_ErrRestoreWithState(\1, Py_IsNone(\2) ? (Py_DECREF(\2), (PyObject *)NULL) : \2);",
    ),
)


# Cython's own declarations lie elsewhere in each environment. Without their place, builds are the same.
CYTHON_NAME = re.compile(r'^(  ")[^"]*/(Cython/Includes/[^"]+",?)$', re.MULTILINE)
# The sources that a C file names, for tracebacks and for gdb.
SOURCE_NAMES = (
    re.compile(r'^(  ")src/(hoop/[^"]+",?)$', re.MULTILINE),
    re.compile(r'^(#line \d+ ")(hoop/[^"]+")$', re.MULTILINE),
)


def adjust(c_file: Path, module: str, with_frames: bool) -> None:
    """Name the sources as they lie in an installation, and take the core's functions out of tracebacks.

    The function that Python calls to make the module gets the module's whole name. Within one shared object
    the last part is not enough: there are two that end in `inbox`.

    A traceback then ends in the user's code that failed. The core is below that, as CPython's own C is.
    A build that shows the core's frames names its sources by their whole path, so that Python and gdb show
    the lines too.
    """
    before = c_file.read_text()
    text = CYTHON_NAME.sub(r"\1\2", before)
    root = f"{SOURCE.resolve()}/" if with_frames else ""
    for pattern in SOURCE_NAMES:
        text = pattern.sub(rf"\g<1>{root}\2", text)
    for pattern, replacement in () if with_frames else NO_FRAMES:
        text = pattern.sub(replacement, text)
    if module != CORE:
        text = re.sub(rf"\bPyInit_{c_file.stem}\b", f"PyInit_{module.replace('.', '__')}", text)
    if text != before:
        c_file.write_text(text)


class BuildExt(build_ext):
    """Compiles the C files side by side, one job per processor, and only those that are not up to date."""

    def finalize_options(self) -> None:
        """Keep the object files. pip gives a temporary folder, so that each would be compiled twice."""
        super().finalize_options()
        self.build_temp = f"build/{MODE}/{sysconfig.get_config_var('SOABI')}"

    def build_extension(self, ext: Extension) -> None:
        """Build the one shared object."""
        with ThreadPoolExecutor(JOBS) as jobs:
            objects = list(jobs.map(lambda source: self.compile_one(source, ext), ext.sources))
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            extra_postargs=ext.extra_link_args,
            target_lang="c",
        )

    def compile_one(self, source: str, ext: Extension) -> str:
        """Compile a C file if it or a header has changed since that was done. Returns the object file."""
        (made,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        changed = max(os.stat(path).st_mtime for path in (source, *ext.depends))
        if self.force or not os.path.exists(made) or os.stat(made).st_mtime < changed:
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=ext.extra_compile_args,
            )
        return str(made)


def compiled_modules() -> list[Path]:
    """The modules with a .pxd beside them: those are compiled, all others are ordinary Python."""
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.with_suffix(".pxd").exists()]


def name_of(path: Path) -> str:
    """The name of the module that a source has."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def shared_object(c_files: list[str]) -> Extension:
    """The extension with every compiled module. All are compiled again when a header or this file changes.

    One for each module would be simpler. But to load nearly sixty took a third of the time of `import hoop`.
    """
    headers = SOURCE / "hoop" / "_c"
    return Extension(
        CORE,
        c_files,
        include_dirs=[str(headers)],
        depends=["setup.py", *(str(path) for path in sorted(headers.glob("*.h")))],
        extra_compile_args=CFLAGS + WARNINGS,
        extra_link_args=LDFLAGS,
    )


def directives_changed() -> bool:
    """Whether C files are left that an older version of this file made: Cython would keep them."""
    changed = Path(__file__).stat().st_mtime
    made = [C_FILES / path.with_suffix(".c") for path in compiled_modules()]
    return any(path.exists() and path.stat().st_mtime < changed for path in made)


def main() -> None:
    """Build, as pip or the command line asks."""
    modules = cythonize(
        [Extension(name_of(path), [str(path)]) for path in compiled_modules()],
        include_path=["src"],
        nthreads=JOBS,
        compiler_directives=DIRECTIVES,
        build_dir=str(C_FILES),
        force=directives_changed(),
        annotate=bool(os.environ.get("HOOP_ANNOTATE")),
        emit_linenums=MODE == "debug",  # gdb then shows the .py, not the C
    )
    for module in modules:
        adjust(Path(module.sources[0]), module.name, with_frames=MODE == "debug")
    setup(
        cmdclass={"build_ext": BuildExt},
        # One folder per mode, or an installation would take extensions of another mode for its own.
        options={"build": {"build_base": f"build/{MODE}"}},
        ext_modules=[shared_object([module.sources[0] for module in modules])],
    )


if __name__ == "__main__":  # cythonize's processes import this file, from Python 3.14 on
    main()
