"""A disk that fails while a sweep runs, under every process of it: the launch, Ray's workers, what sends to MLflow."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests import failing_disk
from tests.failing_disk import SHORT

KINDS = {"no space": errno.ENOSPC, "an error": errno.EIO, "by half": SHORT}

SITE = '''
"""Read by every Python process as it begins."""
import importlib.util
import sys
from pathlib import Path

found = importlib.util.spec_from_file_location("failing_disk", {module!r})
sys.modules["failing_disk"] = failing_disk = importlib.util.module_from_spec(found)
found.loader.exec_module(failing_disk)


def decide(operation):
    if operation.what not in ("write", "fsync"):
        return None
    try:
        return int(Path({switch!r}).read_text() or 0) or None
    except (FileNotFoundError, ValueError):
        return None


failing_disk.Disk(Path({folder!r}), decide).install()
'''


@dataclass(frozen=True)
class FailingDisk:
    """A disk under ``folder`` that can be made to ``fail``; ``place`` is an empty folder for what that takes."""

    folder: Path
    place: Path

    def env(self) -> dict[str, str]:
        """The environment of a command that works on the disk."""
        names = {"module": failing_disk.__file__, "switch": str(self._switch), "folder": str(self.folder)}
        (self.place / "sitecustomize.py").write_text(SITE.format(**names))
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(self.place), os.environ.get("PYTHONPATH"))))}

    @property
    def _switch(self) -> Path:
        return self.place / "fails"

    def fail(self, kind: str, seconds: float) -> None:
        """Let every write and flush fail for some seconds."""
        part = self.place / "part"
        part.write_text(str(KINDS[kind]))
        part.replace(self._switch)
        time.sleep(seconds)
        self._switch.unlink()
