"""Tar bytes that depend on nothing but the members: no clock, no owner, no order of completion.

The writer returns where each payload lies, so that a table can point into the tar and a reader can
take one member without walking it.
"""

import io
import tarfile


class TarWriter:
    """Builds one tar in memory: ustar headers, mtime 0, uid and gid 0, mode 0644.

    A PAX header appears only where ustar cannot hold the name.
    """

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._last = ""

    def add(self, name: str, data: bytes) -> int:
        """Append a member and return the offset of its payload in the finished bytes.

        Names come in ascending order, which also keeps them distinct; ValueError where they do not.
        """
        if name <= self._last:
            raise ValueError(f"tar members come in ascending order: {name!r} after {self._last!r}")
        self._last = name
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._buffer.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        offset = self._buffer.tell()
        self._buffer.write(data)
        self._buffer.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> bytes:
        """The whole tar: two empty blocks close it, padded to a full record as `tar` does."""
        self._buffer.write(bytes(2 * tarfile.BLOCKSIZE))
        self._buffer.write(bytes(-self._buffer.tell() % tarfile.RECORDSIZE))
        return self._buffer.getvalue()
