"""The reading process: an old model file as standard input, the new one as standard output.

Standard error tells what happens, a JSON object a line: bytes done so far, at last what was refused or found.
"""

from __future__ import annotations

import codecs
import json
import mmap
import os
from typing import Any

from cloudbrush.conversion import saved, writing
from cloudbrush.conversion.confinement import confine
from cloudbrush.conversion.contents import contents_of
from cloudbrush.domain.errors import ModelFileError

SOURCE, TARGET, REPORT = 0, 1, 2
CODECS = ("cp437", "ascii", "latin-1", "raw-unicode-escape")  # of zips and pickles; no import comes later


class Output:
    """Writes the new file and tells how far it is."""

    def __init__(self) -> None:
        self._done = 0

    def put(self, block: memoryview | bytes) -> None:
        """Write all of the block."""
        view = memoryview(block)
        while view:
            view = view[os.write(TARGET, view) :]
        self._done += len(block)
        tell({"done": self._done})


def tell(report: dict[str, Any]) -> None:
    """Tell one thing."""
    os.write(REPORT, (json.dumps(report) + "\n").encode())


def convert(data: mmap.mmap) -> None:
    """Read, write, tell; what is refused and what is broken alike."""
    try:
        found = saved.read(data)
        contents = contents_of(found.content)
        tell({"total": sum(map(writing.length, contents.tensors.values()))})
        writing.write(contents.tensors, contents.metadata, data, found.places, Output().put)
        tell({"tensors": len(contents.tensors)})
    except ModelFileError as error:
        tell({"refused": error.detail, "hint": error.hint})
    except MemoryError:
        tell({"refused": "it takes more memory than a model file needs"})
    except OSError as error:
        tell({"refused": f"it could not be converted: {error.strerror or error}"})
    except Exception as error:  # whatever a broken file leads to
        tell({"refused": f"it is damaged, or no file that torch saved ({type(error).__name__})"})


def main() -> None:
    """Convert the one file, confined."""
    size = os.fstat(SOURCE).st_size
    if not size:
        tell({"refused": "it is empty"})
        return
    data = mmap.mmap(SOURCE, 0, access=mmap.ACCESS_READ)
    for codec in CODECS:
        codecs.lookup(codec)
    confine(size, writing.SWELL * size + 4 * writing.BLOCK)
    convert(data)
    os._exit(0)  # nothing is left to tidy up


main()
