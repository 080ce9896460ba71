"""Notes the commit in a package that is built from a clone: a run's record names it. The rest is in pyproject.toml."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithCommit(build_py):
    """Copies the package, and writes next to it the commit, and whether files differ from it."""

    def run(self):
        """Build, then write the file."""
        super().run()
        if self.editable_mode or not (HERE / ".git").exists():
            return
        git = ["git", "--no-optional-locks", "-C", str(HERE)]
        try:
            commit, status = (
                subprocess.run([*git, *words], capture_output=True, check=True, timeout=10).stdout.decode().strip()
                for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "src", "pyproject.toml"))
            )
        except (OSError, subprocess.SubprocessError):  # no git, or a clone without a commit
            return
        file = Path(self.build_lib) / "triptych" / "built_from.txt"
        file.write_text(f"{commit} {'changed' if status else 'unchanged'}\n", "utf-8")


setup(cmdclass={"build_py": BuildWithCommit})
