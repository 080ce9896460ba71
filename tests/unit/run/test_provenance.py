"""The commit that a record names."""

import os
import shutil
import subprocess
import sys

import pytest

import triptych
from support.paths import CHECKOUT
from triptych import cli
from triptych.run import provenance

NOBODY = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e"}
PROJECT = """[project]
name = "triptych"
version = "1"
[tool.setuptools.packages.find]
where = ["src"]
"""


@pytest.fixture
def clone(tmp_path):
    """A small clone with a package named like ours, and its commit."""
    home = tmp_path / "clone"
    (home / "src/triptych").mkdir(parents=True)
    (home / "src/triptych/__init__.py").write_text("")
    (home / "pyproject.toml").write_text(PROJECT)
    (home / ".gitignore").write_text("*.egg-info/\n")
    shutil.copy(CHECKOUT / "setup.py", home)

    def git(*words):
        command = ["git", "-C", str(home), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **NOBODY}).stdout

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "all")
    return home, git("rev-parse", "HEAD").strip()


@pytest.mark.parametrize("changed", [False, True])
def test_a_package_built_from_a_clone_knows_its_commit(clone, tmp_path, monkeypatch, changed):
    """A record names the commit that setup.py wrote at build time, and whether files were changed."""
    pytest.importorskip("setuptools")
    home, commit = clone
    if changed:
        (home / "src/triptych/__init__.py").write_text("'changed'\n")
    build = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path / "site")]
    subprocess.run(build, cwd=home, check=True, capture_output=True)
    assert not (home / "src/triptych" / provenance.BUILT_FROM).exists()
    monkeypatch.setattr(triptych, "__file__", str(tmp_path / "site/triptych/__init__.py"))
    assert provenance._commit() == (commit, changed)


def test_outside_a_clone_the_commit_is_said_to_be_unknown(tmp_path, monkeypatch, capsys):
    """A record has no commit, and `triptych env` says why."""
    monkeypatch.setattr(triptych, "__file__", str(tmp_path / "site/triptych/__init__.py"))
    assert provenance._commit() == (None, None)
    assert cli.main(["env"]) == 0
    assert "commit: unknown (not from a clone)\n" in capsys.readouterr().out
