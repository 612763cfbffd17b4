"""All file names of the record, in one place (docs/record.md)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from analysis.record.launches import LOCK
from linearizer_core.plugins.loading import FOLDER


@dataclass(frozen=True)
class SweepPaths:
    """The files of one sweep; ``root`` is ``<storage>/<sweep>``."""

    root: Path

    @property
    def sweep_json(self) -> Path:
        return self.root / "sweep.json"

    @property
    def journals(self) -> Path:
        return self.root / "journal"

    def journal(self, trial: str) -> Path:
        return self.journals / f"{trial}.jsonl"

    def artifacts(self, trial: str) -> Path:
        return self.root / "artifacts" / trial

    def training_state(self, trial: str) -> Path:
        """The state from which an interrupted trial continues; removed when the trial ends."""
        return self.root / "training" / f"{trial}.pt"

    def state_note(self, trial: str) -> Path:
        """Which saved states of a trial are in a bucket."""
        return self.root / "training" / f"{trial}.json"

    def artifacts_note(self, trial: str) -> Path:
        """Which artifacts of a trial are in a bucket."""
        return self.root / "artifacts" / f"{trial}.json"

    def writer(self, trial: str) -> Path:
        """Which attempt may write a trial's journal where its process sends what it has to say."""
        return self.root / "writers" / trial

    @property
    def holder(self) -> Path:
        """Who held the lease of a record in a bucket that what is in this folder was written under."""
        return self.root / "holder"

    def holder_now(self) -> str:
        """The content of ``holder``; empty where there is none."""
        try:
            return self.holder.read_text()
        except FileNotFoundError:
            return ""

    @property
    def study(self) -> Path:
        return self.root / "study.log"

    @property
    def cursors(self) -> Path:
        return self.root / "shipped.json"

    def cursors_of(self, uri: str) -> Path:
        """The cursors for a tracking server other than the sweep's own."""
        return self.root / f"shipped-{hashlib.sha256(uri.encode()).hexdigest()[:12]}.json"

    @property
    def lock(self) -> Path:
        return self.root / LOCK

    @property
    def stop(self) -> Path:
        """Exists, with the reason as its content, while running trials are asked to save their state and stop."""
        return self.root / "stop"

    @property
    def requests(self) -> Path:
        """Requests for single trials: empty files, which are removed once they are fulfilled."""
        return self.root / "requests"

    def stop_of(self, trial: str) -> Path:
        """Exists while a trial is asked to save its state and stop."""
        return self.requests / f"{trial}.stop"

    def retry_of(self, trial: str) -> Path:
        """Exists while a retry of a trial that has ended is requested."""
        return self.requests / f"{trial}.retry"

    def patch(self, digest: str) -> Path:
        """The uncommitted changes to the code when a launch began."""
        return self.root / f"uncommitted-{digest}.patch"

    @property
    def plugins(self) -> Path:
        """The code of the sweep's plugins, one folder per digest, from which every process loads it."""
        return self.root / FOLDER

    @property
    def superseded(self) -> Path:
        """Journals of trials that a grown sweep no longer needs."""
        return self.root / "superseded"

    @property
    def ledger(self) -> Path:
        """What the launches have spent."""
        return self.root / "ledger.json"

    @property
    def tune(self) -> Path:
        return self.root / "tune"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def storage(self) -> Path:
        return self.root.parent

    @property
    def cache(self) -> Path:
        return self.storage / "cache"

    @property
    def mlflow_database(self) -> Path:
        return self.storage / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.storage / "mlartifacts"
