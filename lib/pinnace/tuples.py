"""``NamedTuple`` without typing, whose import and whose generated code cost each start ten milliseconds."""

from __future__ import annotations

from operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class NamedTuple(tuple):
        """A tuple whose places have the names of the class's annotations, as ``typing.NamedTuple``.

        What is made of it costs more than there: for classes of which a start makes a few.
        """

        __slots__ = ()

        def __init_subclass__(cls) -> None:
            cls._fields = tuple(cls.__annotations__)
            cls._field_defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
            for place, name in enumerate(cls._fields):
                setattr(cls, name, property(itemgetter(place)))

        def __new__(cls, *values, **named):
            fields = cls._fields
            if named or len(values) != len(fields):
                values = cls._completed(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _completed(cls, values, named):
            if len(values) > len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(values)}")
            given = {**cls._field_defaults, **dict(zip(cls._fields, values))}
            if twice := named.keys() & set(cls._fields[: len(values)]):
                raise TypeError(f"{cls.__name__} has two values for {', '.join(twice)}")
            given.update(named)
            if wrong := given.keys() ^ set(cls._fields):
                raise TypeError(f"{cls.__name__} lacks, or does not have, {', '.join(wrong)}")
            return [given[name] for name in cls._fields]

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            pairs = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self))
            return f"{type(self).__name__}({pairs})"

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        def _asdict(self):
            return dict(zip(self._fields, self))
