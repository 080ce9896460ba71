"""Files read by a forge and a package index agree: one version, one list of Python versions, existing Makefile
targets."""

import re
import tomllib

import yaml

import triptych
from support.paths import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def loaded(name: str) -> dict:
    """The content of a YAML file."""
    return yaml.safe_load((CHECKOUT / name).read_text(encoding="utf-8"))


def test_the_citation_names_the_version():
    """CITATION.cff has the version and license of the package."""
    citation = loaded("CITATION.cff")
    assert (citation["version"], citation["license"]) == (triptych.__version__, PROJECT["license"])


def test_every_python_that_is_promised_is_tested():
    """The workflow tests the Python versions of the classifiers, starting with the minimum required one."""
    matrix = loaded(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    promised = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert matrix["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_workflows_run_commands_that_exist():
    """Each `make` command in the workflows, in .ci/run and in CONTRIBUTING.md is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    files = [
        ".ci/run",
        "CONTRIBUTING.md",
        "README.md",
        *(f".github/workflows/{name}.yml" for name in ("ci", "publish")),
    ]
    used = set()
    for name in files:
        used |= set(
            re.findall(r"(?:^|`|run: )make ([a-z-]+)", (CHECKOUT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )
    assert {"test", "lint", "docs", "dist", "compare"} <= used <= targets


def test_what_continuous_integration_runs_is_in_the_readme():
    """The test command of .ci/run is the one in README.md."""
    assert re.search(r"^make test$", (CHECKOUT / ".ci/run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "`make test`" in (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_every_pinned_package_is_pinned_once():
    """constraints.txt has one exact version for each package, in alphabetical order."""
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").split()
    names = [re.fullmatch(r"([\w.-]+)==[\w.+!]+", line)[1].lower().replace("_", "-") for line in lines]
    assert names == sorted(set(names))
