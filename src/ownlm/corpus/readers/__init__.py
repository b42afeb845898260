"""Documents as people have them: one file a format, each a function from bytes to a Reading."""

from ownlm.corpus.readers.folder import FolderReader, LeftOut, files_below
from ownlm.corpus.readers.reading import Places, Reading, UnreadableError

__all__ = ["FolderReader", "LeftOut", "Places", "Reading", "UnreadableError", "files_below"]
