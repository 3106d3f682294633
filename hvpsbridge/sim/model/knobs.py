"""Knobs: how this simulated host behaves where real hosts differ or where their behaviour is unconfirmed.

The defaults are benign; ``HOSTILE`` has for each open question of docs/hyperv-facts.md the value that hurts a
backup most.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from hvpsbridge.units import KIB, MIB


@dataclass(slots=True, kw_only=True)
class Knobs:
    """Behaviour of the simulated host.

    Attributes:
        job_seconds: duration of a WMI job.
        job_lifetime_seconds: ``TimeBeforeRemoval``: how long a finished job object remains.
        job_vanishes: the job object disappears as soon as the job is done.
        jobs_at_once: methods finish at once and return 0 instead of 4096 and a job.
        visibility_seconds: delay before ``Get-VMSnapshot`` shows a new checkpoint.
        names_refused: checkpoints keep the names that the host gave them.
        merge_seconds: minimum duration of a merge.
        merge_bytes_per_second: speed of a merge.
        vhd_busy_while_merging: ``Get-VHD`` refuses the files of a merge that is running.
        merge_retry_seconds: delay before a failed merge is tried again; 0 for never.
        merge_retry_at_start: a failed merge is tried again when its VM is started, and not before.
        merge_delay_seconds: delay before a merge begins; until then nothing shows that it will.
        memory_granularity_bytes: resolution of the kernel's bitmap.
        rct_granularity_bytes: resolution of the ``.rct`` file.
        mrt_granularity_bytes: resolution of the ``.mrt`` file.
        over_report: share of extra, false ranges in answers, 0 to 1, seeded.
        unsorted_answers: ranges of one page come in any order and may touch or overlap.
        ranges_per_page: maximum ranges in one answer, whatever the caller's buffer holds.
        pages_bytes: maximum bytes of the disk examined in one answer; 0 for no limit.
        range_past_end: the last range may end beyond the disk's size.
        new_id_at_conversion: the reference point's ids are taken at the conversion, not at the checkpoint.
        new_id_of_freeze: the reference point's ids are not those of the frozen disks, but of the same moment.
        frozen_id_of_last_point: a frozen handle shows the id of the reference point before; the next one's
            are of the moment of the checkpoint.
        tracking_starts_at_conversion: a disk is not tracked before the first conversion.
        conversion_drops_disk: the reference point lacks the id of its last disk.
        reference_point_arrays_differ: the reference point names one more disk than it has ids.
        ids_die_on_user_checkpoint: a user's checkpoint makes older ids unknown.
        ids_differ_on_children: a child's file does not know its parents' ids.
        ids_survive_apply: after an apply, queries with ids of the abandoned branch succeed, without that
            branch's changes.
        ids_die_on_migration: live migration makes all ids unknown.
        ids_die_on_move: storage migration makes all ids unknown.
        empty_answers: queries succeed and report nothing.
        missing_changes: share of changes missing from answers, 0 to 1, seeded.
        unmap_unreported: trimmed ranges are not tracked.
        unmap_keeps_data: trimmed ranges read as before.
        power_loss_forgets: a power loss loses the changes in the memory bitmap, without an error.
        newer_changes: ``NewerChanges`` of a frozen handle.
        info_without_id: a frozen handle reports that tracking is on, but an empty ``MostRecentId``.
        attached_refusal: code with which an attached handle refuses questions about tracking: version 15 of
            GetVirtualDiskInformation and QueryChangesVirtualDisk; 0 for none.
        info_only_refusal: the same for a handle opened with ``GetInfoOnly``.
        state_refusal: code with which every handle refuses version 15; 0 for none.
        query_refusal: code with which every handle refuses QueryChangesVirtualDisk; 0 for none.
        vhd_state_refusal: code with which a VHD refuses version 15; 0 for the answer that tracking is off.
        frozen_log: the header of a frozen VHDX names a log to replay (LogGuid is not zero).
        files_held: opening the file of a virtual disk with CreateFile is a sharing violation.
        detach_seconds: how long a disk remains attached after its handle was closed without
            DetachVirtualDisk.
        wmi_changes_as_job: GetVirtualDiskChanges returns 4096 and no arrays.
        wmi_length_below_size: GetVirtualDiskChanges refuses a length equal to the disk's size.
        no_volume_privilege: attaching a disk fails with 1314, as without SeManageVolumePrivilege.
        read_delay_seconds: delay before a read's buffer is filled.
        read_sync: share of reads that complete at once instead of pending, 0 to 1.
        short_reads: share of reads that return fewer bytes than requested, 0 to 1, seeded.
        no_merge_settings: Msvm_DiskMergeSettingData has no instances.
        no_security_settings: Msvm_SecuritySettingData has no instances.
        disabled_refuses_backups: recovery checkpoints are refused, too, when checkpoints are disabled.
        conversion_status: operational status of a VM while its checkpoint is converted.
        operational_status: second operational status that VMs show when nothing happens; 0 for none.
        language: language of the host's messages: ``en``, ``de`` or ``ja``.
        texts_without_codes: messages have no HRESULT in parentheses.
        call_seconds: duration of each cmdlet, WMI call and disk function.
        one_recovery_checkpoint: a recovery checkpoint is refused while the VM has another one.
        rights: of sessions: ``administrator``, ``filtered`` by User Account Control,
            ``hyperv_administrator``, or ``user``.
        smb_without_delegation: files on shares cannot be opened by sessions, as without delegation.
        language_mode: of PowerShell; operations fail in any other than ``FullLanguage``.
        unread_bytes: output of a pipeline that may wait for a Receive before its process is held back; of
            new shells.
        reply_bytes: bytes of fragments that end a reply to a Receive; 0 for as many as the envelope holds.
        config_unreadable: the WinRM configuration cannot be read.
        shells_per_user: ``MaxShellsPerUser``.
        shell_memory_mb: ``MaxMemoryPerShellMB``; shown, not enforced.
        attached_flush_refusal: code with which FlushFileBuffers refuses a disk that is attached to be
            written; 0 for none.
        ids_die_on_rename: renaming the file of a disk makes all its ids unknown.
        heartbeat_seconds: from the start of a VM until its guest shows a heartbeat.
        guest_stops: a VM is off again as soon as it was started.
        role_seconds: how long a cluster takes to bring the resource of a VM online or offline.
        role_notices_seconds: how long the resource of a VM still shows online after the VM stopped.
        role_returns_seconds: after that time the resource of a VM that went offline comes online by itself,
            whoever took it offline; 0 for never.
        defender: attack surface reduction rules of Defender, as ``<id>=<action>`` with commas, or ``none``;
            empty without Defender.
    """

    job_seconds: float = 0.05
    job_lifetime_seconds: float = 300.0
    job_vanishes: bool = False
    jobs_at_once: bool = False
    visibility_seconds: float = 0.05
    names_refused: bool = False
    merge_seconds: float = 0.1
    merge_bytes_per_second: float = 400.0 * MIB
    vhd_busy_while_merging: bool = False
    merge_retry_seconds: float = 1.0
    merge_retry_at_start: bool = False
    merge_delay_seconds: float = 0.0
    memory_granularity_bytes: int = 32 * KIB
    rct_granularity_bytes: int = 64 * KIB
    mrt_granularity_bytes: int = 2 * MIB
    over_report: float = 0.25
    unsorted_answers: bool = False
    ranges_per_page: int = 4096
    pages_bytes: int = 0
    range_past_end: bool = False
    new_id_at_conversion: bool = False
    new_id_of_freeze: bool = False
    frozen_id_of_last_point: bool = False
    tracking_starts_at_conversion: bool = False
    conversion_drops_disk: bool = False
    reference_point_arrays_differ: bool = False
    ids_die_on_user_checkpoint: bool = False
    ids_differ_on_children: bool = False
    ids_survive_apply: bool = False
    ids_die_on_migration: bool = False
    ids_die_on_move: bool = False
    empty_answers: bool = False
    missing_changes: float = 0.0
    unmap_unreported: bool = False
    unmap_keeps_data: bool = False
    power_loss_forgets: bool = False
    newer_changes: bool = False
    info_without_id: bool = False
    attached_refusal: int = 0
    info_only_refusal: int = 0
    state_refusal: int = 0
    query_refusal: int = 0
    vhd_state_refusal: int = 0
    frozen_log: bool = False
    files_held: bool = False
    detach_seconds: float = 0.0
    wmi_changes_as_job: bool = False
    wmi_length_below_size: bool = False
    no_volume_privilege: bool = False
    read_delay_seconds: float = 0.0
    read_sync: float = 0.0
    short_reads: float = 0.0
    no_merge_settings: bool = False
    no_security_settings: bool = False
    disabled_refuses_backups: bool = False
    conversion_status: int = 32770
    operational_status: int = 0
    language: str = "en"
    texts_without_codes: bool = False
    call_seconds: float = 0.0
    one_recovery_checkpoint: bool = False
    rights: str = "administrator"
    smb_without_delegation: bool = False
    language_mode: str = "FullLanguage"
    unread_bytes: int = 4 * MIB
    reply_bytes: int = 0
    config_unreadable: bool = False
    shells_per_user: int = 2_147_483_647
    shell_memory_mb: int = 2_147_483_647
    attached_flush_refusal: int = 0
    ids_die_on_rename: bool = False
    heartbeat_seconds: float = 0.0
    guest_stops: bool = False
    role_seconds: float = 0.0
    role_notices_seconds: float = 0.0
    role_returns_seconds: float = 0.0
    defender: str = ""

    def merge_retry_time(self, now: float) -> float | None:
        """When a merge that fails ``now`` is tried again; None if only the start of its VM does that."""
        if self.merge_retry_at_start or not self.merge_retry_seconds:
            return None
        return now + self.merge_retry_seconds

    def set(self, name: str, value: object) -> None:
        """Set a knob; text is converted to the type of the knob.

        Raises:
            ValueError: there is no such knob, or the value does not fit.
        """
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        if name not in known:
            raise ValueError(f"unknown knob {name!r}; use one of {', '.join(sorted(known))}")
        current = known[name]
        if isinstance(current, bool):
            if isinstance(value, str):
                value = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(
                    value.lower(), value
                )
            if not isinstance(value, bool):
                raise ValueError(f"knob {name} takes on or off, not {value!r}")
            setattr(self, name, value)
            return
        try:
            if isinstance(current, int) and isinstance(value, str):
                value = int(value, 0)  # codes are in hex
            setattr(self, name, type(current)(value))
        except (TypeError, ValueError):
            raise ValueError(f"knob {name} takes a {type(current).__name__}, not {value!r}") from None


# One hostile setting per knob that stands for an open question or a caution; the backup matrix runs each. Not
# here: no_volume_privilege, rights, language_mode and smb_without_delegation, which allow no backup at all
# (`hvps host check` finds them).
HOSTILE: dict[str, object] = {
    "job_vanishes": True,
    "jobs_at_once": True,
    "visibility_seconds": 2.0,
    "names_refused": True,
    "merge_seconds": 3.0,
    "vhd_busy_while_merging": True,
    "merge_retry_at_start": True,
    "merge_delay_seconds": 2.0,
    "memory_granularity_bytes": 4 * MIB,
    "over_report": 1.0,
    "unsorted_answers": True,
    "ranges_per_page": 3,
    "pages_bytes": 7 * MIB,
    "range_past_end": True,
    "new_id_at_conversion": True,
    "new_id_of_freeze": True,
    "frozen_id_of_last_point": True,
    "tracking_starts_at_conversion": True,
    "conversion_drops_disk": True,
    "reference_point_arrays_differ": True,
    "ids_die_on_user_checkpoint": True,
    "ids_differ_on_children": True,
    "ids_survive_apply": True,
    "ids_die_on_migration": True,
    "ids_die_on_move": True,
    "empty_answers": True,
    "missing_changes": 0.5,
    "unmap_unreported": True,
    "unmap_keeps_data": True,
    "power_loss_forgets": True,
    "newer_changes": True,
    "info_without_id": True,
    "attached_refusal": 5,
    "info_only_refusal": 5,
    "state_refusal": 5,
    "query_refusal": 5,
    "vhd_state_refusal": 0xC03A001B,
    "frozen_log": True,
    "files_held": True,
    "detach_seconds": 1.5,
    "wmi_changes_as_job": True,
    "wmi_length_below_size": True,
    "read_delay_seconds": 0.02,
    "read_sync": 1.0,
    "short_reads": 0.05,
    "no_merge_settings": True,
    "no_security_settings": True,
    "disabled_refuses_backups": True,
    "conversion_status": 32776,
    # A number that no Windows has yet.
    "operational_status": 32999,
    "language": "ja",
    # A host that never holds a process back.
    "unread_bytes": 1 << 40,
    # Four fragments, as recorded.
    "reply_bytes": 128 * KIB,
    "texts_without_codes": True,
    "call_seconds": 0.05,
    "one_recovery_checkpoint": True,
    "config_unreadable": True,
    "shells_per_user": 5,
    "shell_memory_mb": 150,
    "defender": "d1e49aac-8f56-4280-b9ba-993a6d77406c=1",
}
# The same for what only restores onto hosts meet.
HOSTILE_TO_RESTORES: dict[str, object] = {
    "attached_flush_refusal": 1,
    "ids_die_on_rename": True,
    "role_seconds": 1.0,
    "role_notices_seconds": 600.0,
    "role_returns_seconds": 0.2,
}
