"""Archives of real data."""

import tarfile
from pathlib import Path


def unpacked(archive: Path, folder: Path) -> Path:
    """Write the files of a tar archive side by side into a new folder, by their names alone; return the folder."""
    folder.mkdir()
    with tarfile.open(archive) as members:
        for member in members:
            if member.isfile() and (content := members.extractfile(member)) is not None:
                (folder / Path(member.name).name).write_bytes(content.read())
    return folder
