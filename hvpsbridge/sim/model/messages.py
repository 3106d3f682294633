"""Messages of the simulated host in its language. No code may depend on them."""

from __future__ import annotations

_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "busy": "The operation cannot be performed while the virtual machine is in its current state.",
        "in_use": "The operation cannot be performed while the object is in use.",
        "disabled": "Checkpoints have been disabled for '{vm}'.",
        "unsupported_disk": "'{vm}' cannot be checkpointed: a disk does not support checkpoints.",
        "guest": "'{vm}' failed to create a production checkpoint in the guest. (0x800423F4)",
        "failed": "The operation failed.",
        "locked": "'{vm}' could not initiate a checkpoint operation: the process cannot access the file "
        "because it is being used by another process. (0x80070020)",
        "no_space": "'{vm}' cannot create the storage required for the checkpoint: there is not enough "
        "space on the disk. (0x80070070)",
        "commit_forks": "'{vm}' failed to commit the checkpoint's disks. (0x80048102)",
        "logon_right": "Failed to write VHD attachment. Account restrictions are preventing this user from "
        "signing in. (0x8007052F)",
        "not_found": "The object was not found.",
        "name_too_long": "The name is longer than 100 characters. (0x80070057)",
        "not_recovery": "The checkpoint is not a recovery checkpoint.",
        "creating": "Creating checkpoint",
        "deleting": "Deleting checkpoint",
        "merging": "Merging disks",
        "normal": "Operating normally",
        "merge_started": "Merge of '{path}' started.",
        "merge_done": "Merge of '{path}' finished.",
        "merge_failed": "'{vm}' background disk merge failed: the file is in use. (0x80070020)",
        "full": "'{vm}' has been paused because its volume is full.",
    },
    "de": {
        "busy": "Der Vorgang kann im aktuellen Zustand des virtuellen Computers nicht ausgeführt werden.",
        "in_use": "Der Vorgang kann nicht ausgeführt werden, während das Objekt verwendet wird.",
        "disabled": 'Prüfpunkte wurden für "{vm}" deaktiviert.',
        "unsupported_disk": 'Für "{vm}" kann kein Prüfpunkt erstellt werden.',
        "guest": 'Fehler beim Erstellen eines Produktionsprüfpunkts für "{vm}". (0x800423F4)',
        "failed": "Fehler bei dem Vorgang.",
        "locked": 'Für "{vm}" konnte kein Prüfpunktvorgang gestartet werden: Der Prozess kann nicht auf '
        "die Datei zugreifen, da sie von einem anderen Prozess verwendet wird. (0x80070020)",
        "no_space": 'Speicher für den Prüfpunkt von "{vm}" kann nicht erstellt werden: Es steht nicht '
        "genug Speicherplatz zur Verfügung. (0x80070070)",
        "commit_forks": 'Fehler beim Übernehmen der Datenträger von "{vm}". (0x80048102)',
        "logon_right": "Fehler beim Schreiben der VHD-Anlage. Kontoeinschränkungen verhindern die "
        "Anmeldung dieses Benutzers. (0x8007052F)",
        "not_found": "Das Objekt wurde nicht gefunden.",
        "name_too_long": "Der Name ist länger als 100 Zeichen. (0x80070057)",
        "not_recovery": "Der Prüfpunkt ist kein Wiederherstellungsprüfpunkt.",
        "creating": "Prüfpunkt wird erstellt",
        "deleting": "Prüfpunkt wird gelöscht",
        "merging": "Datenträger werden zusammengeführt",
        "normal": "Normaler Betrieb",
        "merge_started": 'Zusammenführung von "{path}" wurde gestartet.',
        "merge_done": 'Zusammenführung von "{path}" ist abgeschlossen.',
        "merge_failed": 'Fehler beim Zusammenführen der Datenträger von "{vm}". (0x80070020)',
        "full": '"{vm}" wurde angehalten, da das Volume voll ist.',
    },
}


def text(language: str, key: str, **values: object) -> str:
    """Message ``key`` in ``language``, or in English."""
    return _TEXTS.get(language, _TEXTS["en"])[key].format(**values)
