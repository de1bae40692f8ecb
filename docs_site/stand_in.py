"""Imports modules of the package for their documentation without running JAX.

Signatures and docstrings are all that is needed, so the site builds where the extra `jax` is not installed, and looks the same where it is:
`jax.Array` instead of `jaxlib._jax.Array`, and functions with their comments instead of what `jit` made of them.
"""
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

EXTRA = ("jax", "optax")


def load(module: str) -> ModuleType:
    "The module, with something that answers to every name in place of JAX and optax."
    finder = Finder([name for name in EXTRA if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        return import_module(module)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, found in sys.modules.items() if isinstance(found, EmptyModule)]:
            del sys.modules[name]  # whoever imports JAX afterwards gets it


class Name:
    "What stands in for anything of an absent module. As a decorator it hands back the function."

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = "builtins"  # or else `dict[str, jax.Array]` would show ours

    def __getattr__(self, name: str) -> "Name":
        if name.startswith("__"):
            raise AttributeError(name)
        return Name(f"{self.__name__}.{name}")

    def __call__(self, *args: object, **options: object) -> object:
        return args[0] if args and callable(args[0]) else self

    def __or__(self, other: object) -> "Name":
        return Name(f"{self!r} | {shown(other)}")

    def __ror__(self, other: object) -> "Name":
        return Name(f"{shown(other)} | {self!r}")

    def __getitem__(self, item: object) -> "Name":
        return Name(f"{self!r}[{shown(item)}]")

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()

    def __repr__(self) -> str:
        return self.__name__


Name.__name__ = "type"  # what nbdev shows for a parameter whose default it is


def shown(annotation: object) -> str:
    "An annotation as one would write it."
    return "None" if annotation is None else getattr(annotation, "__name__", repr(annotation))


class EmptyModule(ModuleType):
    "A module that has every name."

    def __getattr__(self, name: str) -> Name:
        if name.startswith("__"):
            raise AttributeError(name)
        return Name(f"{self.__name__}.{name}")


class Finder(MetaPathFinder, Loader):
    "Finds the absent modules and what is below them."

    def __init__(self, absent: list[str]) -> None:
        self.absent = absent

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] in self.absent else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
