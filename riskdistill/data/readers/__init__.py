"""One reader per published format, `canonical` for our own, and `mapping` for everything else.

A reader takes a file or the folder that holds it and yields `Batch`es: canonical transactions, their labels
and the rejected rows, in source order. To add a format, write its module and name it in `READERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from riskdistill.data.readers import amlgentex, amlsim, amlworld, canonical, mapping, paysim, saml_d
from riskdistill.data.validate import Batch
from riskdistill.errors import ConfigError, UnknownFormatError

Reader = Callable[[Path], Iterator[Batch]]

READERS: Final[dict[str, Reader]] = {
    "canonical": canonical.read,
    "amlworld": amlworld.read,
    "saml-d": saml_d.read,
    "amlsim": amlsim.read,
    "amlgentex": amlgentex.read,
    "paysim": paysim.read,
}
_WITH_COMPANIONS: Final = (canonical.read, amlworld.read, amlsim.read)
FORMATS: Final = (*READERS, "mapping")


def reader_beside(name: str, source: Path) -> Reader:
    """The reader of the format `name` (not `mapping`) for rows of `source` that stand in another file.

    What goes with the source (patterns, alerts, accounts, truth) is looked for where the source is.
    """
    read = READERS[name]
    return partial(read, beside=source) if read in _WITH_COMPANIONS else read


def reader(name: str, mapping_file: Path | None = None) -> Reader:
    """The reader of the format `name`.

    Args:
        name: one of `FORMATS`.
        mapping_file: YAML that names the columns; for the format `mapping`, and only for it.

    Raises:
        UnknownFormatError: listing the formats, nearest first.
        ConfigError: a mapping file is missing, wrong, or given to a format that names its own columns.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name.lower(), FORMATS, n=len(FORMATS), cutoff=0.0)
        raise UnknownFormatError(f"no format {name!r}", mend=f"use one of: {', '.join(near)}")
    if name == "mapping":
        if mapping_file is None:
            raise ConfigError("format 'mapping' needs a mapping file", mend="name the YAML that names the columns")
        return partial(mapping.read, mapping=mapping.load_mapping(mapping_file))
    if mapping_file is not None:
        raise ConfigError(
            f"format {name!r} names its own columns", where=str(mapping_file), mend="use format 'mapping'"
        )
    return READERS[name]
