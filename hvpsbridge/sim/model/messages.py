"""Messages of the simulated host in its language. No code may depend on them."""

from __future__ import annotations

TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "busy": "The operation cannot be performed while the virtual machine is in its current state.",
        "in_use": "The operation cannot be performed while the object is in use.",
        "disabled": "Checkpoints have been disabled for '{vm}'.",
        "unsupported_disk": "'{vm}' cannot be checkpointed: a disk does not support checkpoints.",
        "guest": "'{vm}' failed to create a production checkpoint in the guest. (0x800423F4)",
        "failed": "The operation failed.",
        "locked": "'{vm}' could not initiate a checkpoint operation: '{path}': the process cannot access the "
        "file because it is being used by another process. (0x80070020)",
        "no_space": "'{vm}' cannot create the storage required for the checkpoint: there is not enough "
        "space on the disk. (0x80070070)",
        "commit_forks": "'{vm}' failed to commit the checkpoint's disks. (0x80048102)",
        "logon_right": "Failed to write VHD attachment. Account restrictions are preventing this user from "
        "signing in. (0x8007052F)",
        "denied": "You do not have the permission to complete this task.",
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
        "no_file": "'{vm}' failed to start: '{path}': the file cannot be found. (0x80070002)",
        "file_in_use": "'{vm}' failed to start: '{path}' is used by another process. (0x80070020)",
        "no_right": "'{vm}' failed to start: '{path}': access is denied. (0x80070005)",
    },
    "de": {
        "busy": "Der Vorgang kann im aktuellen Zustand des virtuellen Computers nicht ausgeführt werden.",
        "in_use": "Der Vorgang kann nicht ausgeführt werden, während das Objekt verwendet wird.",
        "disabled": 'Prüfpunkte wurden für "{vm}" deaktiviert.',
        "unsupported_disk": 'Für "{vm}" kann kein Prüfpunkt erstellt werden.',
        "guest": 'Fehler beim Erstellen eines Produktionsprüfpunkts für "{vm}". (0x800423F4)',
        "failed": "Fehler bei dem Vorgang.",
        "locked": 'Für "{vm}" konnte kein Prüfpunktvorgang gestartet werden: "{path}": Der Prozess kann '
        "nicht auf die Datei zugreifen, da sie von einem anderen Prozess verwendet wird. (0x80070020)",
        "no_space": 'Speicher für den Prüfpunkt von "{vm}" kann nicht erstellt werden: Es steht nicht '
        "genug Speicherplatz zur Verfügung. (0x80070070)",
        "commit_forks": 'Fehler beim Übernehmen der Datenträger von "{vm}". (0x80048102)',
        "logon_right": "Fehler beim Schreiben der VHD-Anlage. Kontoeinschränkungen verhindern die "
        "Anmeldung dieses Benutzers. (0x8007052F)",
        "denied": "Sie verfügen nicht über die Berechtigung, diese Aufgabe abzuschließen.",
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
        "no_file": '"{vm}" konnte nicht gestartet werden: "{path}" wurde nicht gefunden. (0x80070002)',
        "file_in_use": '"{vm}" konnte nicht gestartet werden: "{path}" wird verwendet. (0x80070020)',
        "no_right": '"{vm}" konnte nicht gestartet werden: "{path}": Zugriff verweigert. (0x80070005)',
    },
    "ja": {
        "busy": "仮想マシンの現在の状態では、この操作を実行できません。",
        "in_use": "オブジェクトが使用中のため、この操作を実行できません。",
        "name_too_long": "名前が長すぎます。 (0x80070057)",
        "disabled": "'{vm}' のチェックポイントは無効になっています。",
        "unsupported_disk": "'{vm}' のチェックポイントを作成できません。",
        "guest": "'{vm}' の運用チェックポイントを作成できませんでした。 (0x800423F4)",
        "failed": "操作に失敗しました。",
        "locked": "'{vm}' のチェックポイント操作を開始できませんでした: ファイルは別のプロセスが使用中です。 "
        "(0x80070020)",
        "no_space": "'{vm}' のチェックポイントに必要な記憶域を作成できません。 (0x80070070)",
        "commit_forks": "'{vm}' のディスクを確定できませんでした。 (0x80048102)",
        "logon_right": "VHD 添付ファイルを書き込めませんでした。 (0x8007052F)",
        "denied": "このタスクを完了するためのアクセス許可がありません。",
        "not_found": "オブジェクトが見つかりません。",
        "not_recovery": "回復チェックポイントではありません。",
        "creating": "チェックポイントを作成しています",
        "deleting": "チェックポイントを削除しています",
        "merging": "ディスクを結合しています",
        "normal": "正常に稼働しています",
        "merge_started": "'{path}' の結合を開始しました。",
        "merge_done": "'{path}' の結合が完了しました。",
        "merge_failed": "'{vm}' のディスクの結合に失敗しました。 (0x80070020)",
        "full": "ボリュームがいっぱいのため、'{vm}' を一時停止しました。",
        "no_file": "'{vm}' を起動できませんでした: '{path}' が見つかりません。 (0x80070002)",
        "file_in_use": "'{vm}' を起動できませんでした: '{path}' は使用中です。 (0x80070020)",
        "no_right": "'{vm}' を起動できませんでした: '{path}': アクセスが拒否されました。 (0x80070005)",
    },
}


def text(language: str, key: str, **values: object) -> str:
    """Message ``key`` in ``language``, or in English."""
    return TEXTS.get(language, TEXTS["en"])[key].format(**values)
