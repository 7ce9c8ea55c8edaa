"""Add methods and properties to the requests, responses and WebSockets of one app.

Each app with extensions has classes of its own, below the usual ones. Others keep the usual classes and pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")

_CONTAINERS: Final = (list, dict, set, bytearray)


class AppExtension:
    """Collect what an extension adds to one kind of object.

    Args:
        kind: "request", "response" or "WebSocket", for messages.
        face: the class that will be extended.
    """

    def __init__(self, kind: str, face: type) -> None:
        self._kind = kind
        self._face = face
        self._members: dict[str, Any] = {}
        self._keeps_values = False

    @property
    def empty(self) -> bool:
        """Tell whether nothing has been added."""
        return not self._members

    def method(self, function: _F) -> _F:
        """Add a method under the function's name; its first argument is the object. Works as a decorator.

        It can take the place of a public method.

        Raises:
            TypeError: it cannot be called, or has no name of its own.
            ValueError: the name is taken by a property or is private.
        """
        name = getattr(function, "__name__", "")
        if not callable(function) or not name.isidentifier():
            raise TypeError(f"an extension's method must be a named function, not {function!r}")
        present = getattr(self._face, name, None)
        if name.startswith("_") or (present is not None and not callable(present)):
            raise ValueError(f"the {self._kind} has {name!r} already or keeps such names to itself: choose another")
        self._members[name] = function
        return function

    def property(self, name: str, default: Any = None) -> None:
        """Add an attribute that each object has for itself, beginning with `default`.

        A list, dict, set or bytearray is copied for each object; anything else is shared.

        Raises:
            ValueError: the name is no identifier, is taken, or is private.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"an extension's property needs an identifier for a name, not {name!r}")
        if name.startswith("_") or hasattr(self._face, name):
            raise ValueError(f"the {self._kind} has {name!r} already or keeps such names to itself: choose another")
        self._members[name] = _Container(name, default) if type(default) in _CONTAINERS else default
        self._keeps_values = True

    def extended(self, face: type[_T]) -> type[_T]:
        """Return a class below `face` with all that was added; `face` itself when that is nothing."""
        if not self._members:
            return face
        space = dict(self._members)
        if not self._keeps_values:
            space["__slots__"] = ()
        return type(face.__name__, (face,), {"__doc__": face.__doc__, "__module__": face.__module__, **space})


class _Container:
    """Give each object a copy of a container when it is first asked for."""

    def __init__(self, name: str, default: Any) -> None:
        self._name = name
        self._default = default

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self._default
        value = vars(instance)[self._name] = self._default.copy()
        return value
