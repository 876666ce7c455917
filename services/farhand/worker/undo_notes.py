"""What a run has to take back, written down before the run begins anything elsewhere.

A keeper takes it back when the run ends (warden/undo.py). When it can't in its time,
or keeper, warden and worker were killed at one stroke, the note is what is left: the
worker tries again until it is done, and its next start does before it says that the
earlier one is dead. One file for each run: the request of a process_control.Undo.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from farhand.worker.process_control import Undo
from farhand.worker.warden import undo as requests

log = logging.getLogger(__name__)

PAUSE = 30.0  # seconds between attempts


class UndoNotes:
    """The notes of one data folder."""

    def __init__(self, folder: Path) -> None:
        """What earlier workers left is looked at now, while their runs' folders are still there."""
        self._folder = folder
        self._left: set[Path] = set()  # what nobody else sees to
        for note in folder.glob("*.json"):
            if _begun(note):
                self._left.add(note)
            else:
                note.unlink()

    def write(self, run_id: str, undo: Undo) -> None:
        """The run will begin something. Raises OSError where that can't be kept."""
        self._write(self._note(run_id), asdict(undo))

    def done(self, run_id: str) -> None:
        """It is taken back, or was never begun."""
        self._note(run_id).unlink(missing_ok=True)

    def left(self, run_id: str) -> None:
        """The run is over, and so is its folder, and it could not be taken back yet."""
        note = self._note(run_id)
        self._write(note, {**json.loads(note.read_text()), "begun": ""})
        self._left.add(note)

    def carry_out(self) -> bool:
        """Try all that is left; True where nothing is any more. Takes its time."""
        for note in sorted(self._left):
            said = json.loads(note.read_text())
            if why := requests.carry_out(requests.read(said), cut_off=False):
                log.warning(f"{said['what']} of an earlier run can't be removed yet", extra={"why": why})
                continue
            log.info(f"{said['what']} of an earlier run is removed")
            note.unlink(missing_ok=True)
            self._left.discard(note)
        return not self._left

    async def keep_trying(self) -> None:
        """Try again and again what is left."""
        while True:
            await asyncio.sleep(PAUSE)
            await asyncio.to_thread(self.carry_out)

    @staticmethod
    def _write(note: Path, said: Mapping[str, Any]) -> None:
        fresh = note.with_suffix(".new")
        fresh.write_text(json.dumps(said))
        fresh.replace(note)

    def _note(self, run_id: str) -> Path:
        return self._folder / f"{quote(run_id, safe='')}.json"


def _begun(note: Path) -> bool:
    try:
        return requests.is_due(requests.read(json.loads(note.read_text())))
    except (OSError, ValueError, KeyError, TypeError):
        log.error("a note of what is to be taken back can't be read", extra={"file": str(note)})
        return False
