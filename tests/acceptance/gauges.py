"""What a process holds, as Linux tells it in /proc: threads, open files, memory."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Gauges:
    """Files include sockets, but not those of a SQLite database: its connections stay open."""

    threads: float
    files: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.files} files, {self.megabytes:.0f} MB"


def look_at(pid: int) -> Gauges:
    """Read the gauges of a running process."""
    process = Path(f"/proc/{pid}")
    opened = [_target(link) for link in (process / "fd").iterdir()]
    resident_pages = int((process / "statm").read_text().split()[1])
    return Gauges(
        threads=len(list((process / "task").iterdir())),
        files=sum(not Path(target).suffix.startswith(".db") for target in opened),
        megabytes=resident_pages * PAGE / 1e6,
    )


def _target(link: Path) -> str:
    with suppress(FileNotFoundError):  # closed meanwhile
        return os.readlink(link)
    return ""
