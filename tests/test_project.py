"""The files around the code: workflows, change notes, and what is put into an archive or a wheel.

`make lint` holds the files of .github against their schemas. Here is what no schema knows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

# An archive of the sources has neither.
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")


def committed(under: str = "") -> set[str]:
    """The files of the repository, committed or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", under]
    listed = subprocess.run(
        command if under else command[:-2], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


# ---- workflows ---------------------------------------------------------------------------------------


def jobs(workflow: Path) -> dict[str, str]:
    """The text of each job, by its name."""
    _, _, text = workflow.read_text().partition("\njobs:\n")
    parts = re.split(r"^  ([a-z]+):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_only_what_it_says(workflow):
    """Each job has its own rights, and a time after which it is stopped."""
    text = workflow.read_text()
    assert "\npermissions: {}\n" in text
    assert "\nconcurrency:\n" in text
    assert "pull_request_target" not in text
    assert jobs(workflow)
    for name, job in jobs(workflow).items():
        assert re.search(r"^    permissions:$", job, re.MULTILINE), name
        assert re.search(r"^    timeout-minutes: \d+$", job, re.MULTILINE), name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(workflow):
    """A tag can be moved to other code, a commit cannot. The version is there for people."""
    used = re.findall(r"uses: (.*)", workflow.read_text())
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [action for action in used if not pinned.fullmatch(action)] == []


def test_an_action_has_one_version():
    used = {action for path in WORKFLOWS for action in re.findall(r"uses: (.*)", path.read_text())}
    names = [action.partition("@")[0] for action in used]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_only_what_is_here(workflow):
    text = workflow.read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", text)) | set(re.findall(r"target: (\w+)", text))
    assert targets <= TARGETS
    text = re.sub(r"^ +tests: .*", "", text, flags=re.MULTILINE)  # those of another project
    named = re.findall(r"(?<![\w./-])((?:\.ci|benchmarks|tools|tests)/[\w./-]*\w)", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    groups = re.findall(r"pip install --group (\w+)", text.replace("--group dev", ""))
    assert set(groups) <= set(PROJECT["dependency-groups"])


@pytest.mark.parametrize(("body", "status"), [("asyncio.run(asyncio.sleep(0))", 0), ("pass", 1)])
def test_other_projects_tests_pass_only_if_a_loop_of_hoop_ran(tmp_path, body, status):
    (tmp_path / "test_it.py").write_text(f"import asyncio\n\ndef test_it():\n    {body}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "on_hoop", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "downstream")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"loops made by hoop: {1 - status}" in done.stdout
    assert done.returncode == status


@pytest.mark.parametrize("name", ["bug", "slow", "idea"])
def test_issue_forms_ask_for_the_doctor(name):
    form = (GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml").read_text()
    assert "label: Output of `hoop doctor`" in form


def test_files_of_the_host_are_indented_by_spaces():
    for path in GITHUB.rglob("*.yml"):
        lines = path.read_text().splitlines()
        assert [line for line in lines if "\t" in line or line != line.rstrip()] == [], path.name


# ---- documents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]
)
def test_documents_name_commands_and_files_that_exist(name):
    text = (ROOT / name).read_text()
    code = re.findall(r"```\n(.*?)```|`([^`]+)`", text, re.DOTALL)
    commands = "\n".join(fenced or inline for fenced, inline in code)
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= TARGETS
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_change_notes_are_of_a_kind_that_the_changelog_has():
    """towncrier leaves out a file whose kind it does not know, and says nothing."""
    kinds = "|".join(PROJECT["tool"]["towncrier"]["fragment"])
    name = re.compile(rf"[\w-]+\.({kinds})\.md")
    others = {"README.md", Path(PROJECT["tool"]["towncrier"]["template"]).name}
    notes = [path for path in (ROOT / "CHANGES").iterdir() if path.name not in others]
    assert [path.name for path in notes if not name.fullmatch(path.name)] == []
    assert [path.name for path in notes if not path.read_text().strip()] == []
    changelog = (ROOT / PROJECT["tool"]["towncrier"]["filename"]).read_text()
    assert PROJECT["tool"]["towncrier"]["start_string"] in changelog


# ---- archives and wheels -----------------------------------------------------------------------------

LISTING = """
import json, sys, setuptools
dist = setuptools.Distribution({"script_name": "setup.py"})
dist.parse_config_files()
egg_info = dist.get_command_obj("egg_info")
egg_info.egg_base = sys.argv[1]
egg_info.ensure_finalized()
egg_info.run()
build_py = dist.get_command_obj("build_py")
build_py.ensure_finalized()
wheel = [
    f"src/{package.replace('.', '/')}/{name}"
    for package, _, _, names in build_py.data_files
    for name in names
]
wheel += [path for _, _, path in build_py.find_all_modules()]
print(json.dumps({"archive": egg_info.filelist.files, "wheel": wheel}))
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, set[str]]:
    """The files that setuptools puts into the source archive and, but for extensions, into a wheel."""
    listed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTING, tmp_path_factory.mktemp("egg")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {kind: set(names) for kind, names in json.loads(listed.splitlines()[-1]).items()}


def test_the_archive_has_no_stray_file(shipped):
    """Files that were built, or lie about in a working folder, stay here."""
    names = {name for name in shipped["archive"] if ".egg-info/" not in name}
    assert names - committed() == set()
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py"} <= names
    assert committed("src") <= names


def test_a_wheel_has_the_package_and_nothing_else(shipped):
    """The declarations are in it, so that others may cimport them, and the sources, for tracebacks."""
    assert shipped["wheel"] == committed("src/hoop")
    kinds = {Path(name).suffix for name in shipped["wheel"]} - {".typed"}
    assert kinds == {".py", ".pyi", ".pxd", ".h", ".html"}
