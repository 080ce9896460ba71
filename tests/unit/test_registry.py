"""What the package registers: final classes with documented options."""

import inspect

from triptych import registry
from triptych.plugins import import_plugins
from triptych.registry import Plugin


def shipped() -> list[type[Plugin]]:
    """Every class that the package itself registers."""
    import_plugins()
    tables = registry._tables.values()
    return [cls for table in tables for cls in table.values() if cls.__module__.startswith("triptych.")]


def test_classes_are_abstract_or_final():
    """No registered class inherits from a class that could itself be used, other than the base of all contracts."""
    for cls in shipped():
        usable = [base for base in cls.__mro__[1:] if issubclass(base, Plugin) and not inspect.isabstract(base)]
        assert not inspect.isabstract(cls) and usable == [Plugin], cls


def test_every_option_is_described():
    """Each field of a registered class says what it does, for `triptych list`."""
    for cls in shipped():
        bare = [name for name, field in cls.model_fields.items() if not field.description]
        assert not bare, (cls, bare)
