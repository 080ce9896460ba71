"""Import all plug-ins, so that they register themselves: built-in ones, installed ones, and files given by the user."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from triptych.errors import ConfigError

PLUGIN_HOMES = ("methods", "baselines", "datasets", "metrics", "models.tiny")  # packages or modules; none needs torch
ENTRY_POINT_GROUP = "triptych.plugins"


def import_plugins(plugins: Iterable[str] = (), homes: Iterable[str] = PLUGIN_HOMES) -> None:
    """Import every plug-in: those of this package, then those of entry points, then the files.

    Args:
        plugins: paths given with `--plugin`; these files are run as Python code.
        homes: which of this package's own plug-ins to import.

    Raises:
        ConfigError: a plug-in file does not exist, or importing a plug-in fails.
    """
    for name in homes:
        home = importlib.import_module(f"triptych.{name}")
        for module in pkgutil.iter_modules(getattr(home, "__path__", ())):
            importlib.import_module(f"{home.__name__}.{module.name}")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            point.load()
        except Exception as error:
            raise ConfigError(f"The installed plug-in {point.name!r} cannot be imported: {error}.") from error
    for plugin in plugins:
        _load_file(Path(plugin).resolve())


def _load_file(path: Path) -> None:
    """Run one plug-in file as a module."""
    if not path.is_file():
        raise ConfigError(f"There is no plug-in file {str(path)!r}.")
    name = f"triptych_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"The plug-in {str(path)!r} is not a Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"The plug-in {str(path)!r} cannot be imported: {type(error).__name__}: {error}.") from error
