"""Brings in everything that registers itself: the package's own plug-ins, installed ones, files of the command line."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from triptych.errors import ConfigError

PACKAGES = ("methods", "baselines", "datasets", "metrics", "models")
ENTRY_POINTS = "triptych.plugins"


def import_plugins(plugins: Iterable[str] = (), packages: Iterable[str] = PACKAGES) -> None:
    """Import every plug-in.

    Args:
        plugins: files given with `--plugin`; they are run as Python code, as the user asked.
        packages: of this package's own plug-ins, which kinds: who needs metrics alone is spared torch.

    Raises:
        ConfigError: a plug-in is missing or fails when it is imported.
    """
    for package in packages:
        home = importlib.import_module(f"triptych.{package}")
        for module in pkgutil.iter_modules(home.__path__):
            importlib.import_module(f"{home.__name__}.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            raise ConfigError(f"The installed plug-in {point.name!r} cannot be imported: {error}.") from error
    for plugin in plugins:
        _load_file(Path(plugin).resolve())


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"There is no plug-in file {str(path)!r}.")
    name = f"triptych_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"The plug-in {str(path)!r} is no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"The plug-in {str(path)!r} cannot be imported: {type(error).__name__}: {error}.") from error
