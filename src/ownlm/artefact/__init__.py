"""Artefact folders: what was made, how, and proof that it is still that."""

from ownlm.artefact.card import Card, content_hash, read_card
from ownlm.artefact.folder import Draft, file_sha256, seal_folder, verify_artefact, write_artefact
from ownlm.artefact.lock import folder_lock
from ownlm.artefact.read import read_errors, read_json, read_text
from ownlm.artefact.run import Events, Watch, read_events
from ownlm.artefact.write import disk_errors, write_atomically

__all__ = [
    "Card",
    "Draft",
    "Events",
    "Watch",
    "content_hash",
    "disk_errors",
    "file_sha256",
    "folder_lock",
    "read_card",
    "read_errors",
    "read_events",
    "read_json",
    "read_text",
    "seal_folder",
    "verify_artefact",
    "write_artefact",
    "write_atomically",
]
