"""WMI classes of the simulated host: their properties with CIM types, keys, and methods' parameters.

A class or property that is not here does not exist on the simulated host, and asking for it is an error
(docs/hyperv-facts.md#wmi-classes).
"""

from __future__ import annotations

from dataclasses import dataclass, field

VIRTUALIZATION = "root/virtualization/v2"
CIMV2 = "root/cimv2"
DEFENDER = "root/microsoft/windows/defender"


@dataclass(frozen=True, slots=True)
class Method:
    """CIM types of a method's parameters by name. ``ref:`` types are references to a class."""

    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class CimClass:
    """A class: CIM types of properties by name, the names of key properties, and methods."""

    namespace: str
    key: tuple[str, ...]
    properties: dict[str, str]
    methods: dict[str, Method] = field(default_factory=dict)


def _service(methods: dict[str, Method] | None = None) -> CimClass:
    return CimClass(
        VIRTUALIZATION,
        ("CreationClassName", "Name", "SystemCreationClassName", "SystemName"),
        {
            "CreationClassName": "string",
            "Name": "string",
            "SystemCreationClassName": "string",
            "SystemName": "string",
            "ElementName": "string",
            "Caption": "string",
            "Started": "boolean",
            "EnabledState": "uint16",
        },
        methods or {},
    )


_JOB = "ref:Msvm_ConcreteJob"
_SETTINGS = "ref:Msvm_VirtualSystemSettingData"
_POINT = "ref:Msvm_VirtualSystemReferencePoint"
_SYSTEM = "ref:Msvm_ComputerSystem"

CLASSES: dict[str, CimClass] = {
    "Msvm_ComputerSystem": CimClass(
        VIRTUALIZATION,
        ("CreationClassName", "Name"),
        {
            "CreationClassName": "string",
            "Name": "string",
            "ElementName": "string",
            "Caption": "string",
            "Description": "string",
            "EnabledState": "uint16",
            "HealthState": "uint16",
            "OperationalStatus": "uint16[]",
            "StatusDescriptions": "string[]",
            "InstallDate": "datetime",
            "OnTimeInMilliseconds": "uint64",
            "ProcessID": "uint32",
            "ReplicationMode": "uint16",
            "ReplicationState": "uint16",
            "ReplicationHealth": "uint16",
        },
    ),
    "Msvm_VirtualSystemSettingData": CimClass(
        VIRTUALIZATION,
        ("InstanceID",),
        {
            "InstanceID": "string",
            "ElementName": "string",
            "Caption": "string",
            "Description": "string",
            "VirtualSystemIdentifier": "string",
            "VirtualSystemType": "string",
            "VirtualSystemSubType": "string",
            "ConfigurationID": "string",
            "ConfigurationDataRoot": "string",
            "ConfigurationFile": "string",
            "SnapshotDataRoot": "string",
            "CreationTime": "datetime",
            "Notes": "string[]",
            "IncrementalBackupEnabled": "boolean",
            "UserSnapshotType": "uint16",
            "IsAutomaticSnapshot": "boolean",
            "Version": "string",
            "Parent": "string",
        },
    ),
    "Msvm_StorageAllocationSettingData": CimClass(
        VIRTUALIZATION,
        ("InstanceID",),
        {
            "InstanceID": "string",
            "ElementName": "string",
            "Caption": "string",
            "ResourceType": "uint16",
            "ResourceSubType": "string",
            "HostResource": "string[]",
            "Parent": "string",
            "Address": "string",
            "AddressOnParent": "string",
            "PersistentReservationsSupported": "boolean",
            "SnapshotId": "string",
            "WriteHardeningMethod": "uint16",
            "PoolID": "string",
        },
    ),
    "Msvm_DiskMergeSettingData": CimClass(
        VIRTUALIZATION,
        ("InstanceID",),
        {
            "InstanceID": "string",
            "Caption": "string",
            "Description": "string",
            "ElementName": "string",
            "EnabledState": "uint32",
        },
    ),
    "Msvm_SecuritySettingData": CimClass(
        VIRTUALIZATION,
        ("InstanceID",),
        {
            "InstanceID": "string",
            "Caption": "string",
            "Description": "string",
            "ElementName": "string",
            "TpmEnabled": "boolean",
            "KsdEnabled": "boolean",
            "ShieldingRequested": "boolean",
            "DataProtectionRequested": "boolean",
            "EncryptStateAndVmMigrationTraffic": "boolean",
            "VirtualizationBasedSecurityOptOut": "boolean",
        },
    ),
    "Msvm_VirtualSystemReferencePoint": CimClass(
        VIRTUALIZATION,
        ("InstanceID",),
        {
            "InstanceID": "string",
            "ElementName": "string",
            "Caption": "string",
            "Description": "string",
            "ReferencePointType": "uint16",
            "ConsistencyLevel": "uint16",
            "VirtualSystemIdentifier": "string",
            "HasAssociatedData": "boolean",
            "VirtualDiskIdentifiers": "string[]",
            "ResilientChangeTrackingIdentifiers": "string[]",
        },
    ),
    "Msvm_ConcreteJob": CimClass(
        VIRTUALIZATION,
        ("InstanceID",),
        {
            "InstanceID": "string",
            "Name": "string",
            "ElementName": "string",
            "Caption": "string",
            "Description": "string",
            "JobState": "uint16",
            "JobType": "uint16",
            "JobStatus": "string",
            "Status": "string",
            "OperationalStatus": "uint16[]",
            "PercentComplete": "uint16",
            "ErrorCode": "uint16",
            "ErrorDescription": "string",
            "ErrorSummaryDescription": "string",
            "Cancellable": "boolean",
            "DeleteOnCompletion": "boolean",
            "StartTime": "datetime",
            "ElapsedTime": "interval",
            "TimeBeforeRemoval": "interval",
        },
    ),
    "Msvm_VirtualSystemSnapshotService": _service(
        {
            "CreateSnapshot": Method(
                {
                    "AffectedSystem": _SYSTEM,
                    "SnapshotSettings": "string",
                    "SnapshotType": "uint16",
                    "ResultingSnapshot": _SETTINGS,
                },
                {"ResultingSnapshot": _SETTINGS, "Job": _JOB},
            ),
            "DestroySnapshot": Method({"AffectedSnapshot": _SETTINGS}, {"Job": _JOB}),
            "ApplySnapshot": Method({"Snapshot": _SETTINGS}, {"Job": _JOB}),
            "ConvertToReferencePoint": Method(
                {
                    "AffectedSnapshot": _SETTINGS,
                    "ReferencePointSettings": "string",
                    "ResultingReferencePoint": _POINT,
                },
                {"ResultingReferencePoint": _POINT, "Job": _JOB},
            ),
        }
    ),
    "Msvm_VirtualSystemReferencePointService": _service(
        {"DestroyReferencePoint": Method({"AffectedReferencePoint": _POINT}, {"Job": _JOB})}
    ),
    "Msvm_ImageManagementService": _service(
        {
            "GetVirtualDiskChanges": Method(
                {
                    "Path": "string",
                    "LimitId": "string",
                    "TargetSnapshotId": "string",
                    "ByteOffset": "uint64",
                    "ByteLength": "uint64",
                },
                {
                    "ProcessedByteLength": "uint64",
                    "ChangedByteOffsets": "uint64[]",
                    "ChangedByteLengths": "uint64[]",
                    "Job": _JOB,
                },
            )
        }
    ),
    "Msvm_VirtualSystemManagementService": _service(
        {"ModifySystemSettings": Method({"SystemSettings": "string"}, {"Job": _JOB})}
    ),
    # A class of embedded instances: it has no instances of its own.
    "Msvm_VirtualSystemSnapshotSettingData": CimClass(
        VIRTUALIZATION,
        (),
        {
            "InstanceID": "string",
            "ElementName": "string",
            "Caption": "string",
            "Description": "string",
            "ConsistencyLevel": "uint8",
            "IgnoreNonSnapshottableDisks": "boolean",
            "GuestBackupType": "uint8",
        },
    ),
    "Msvm_VirtualSystemReferencePointSettingData": CimClass(
        VIRTUALIZATION,
        (),
        {"InstanceID": "string", "ElementName": "string", "ConsistencyLevel": "uint8"},
    ),
    "Win32_OperatingSystem": CimClass(
        CIMV2,
        ("Name",),
        {
            "Name": "string",
            "Caption": "string",
            "CSName": "string",
            "Version": "string",
            "BuildNumber": "string",
            "ProductType": "uint32",
            "OSArchitecture": "string",
            "LastBootUpTime": "datetime",
            "LocalDateTime": "datetime",
            "TotalVisibleMemorySize": "uint64",
            "FreePhysicalMemory": "uint64",
        },
    ),
    "Win32_ComputerSystem": CimClass(
        CIMV2,
        ("Name",),
        {
            "Name": "string",
            "DNSHostName": "string",
            "Domain": "string",
            "PartOfDomain": "boolean",
            "NumberOfLogicalProcessors": "uint32",
            "TotalPhysicalMemory": "uint64",
        },
    ),
    "Win32_ComputerSystemProduct": CimClass(
        CIMV2,
        ("Name",),
        {"Name": "string", "Vendor": "string", "IdentifyingNumber": "string", "UUID": "string"},
    ),
    "StdRegProv": CimClass(
        CIMV2,
        (),
        {},
        {
            "GetDWORDValue": Method(
                {"hDefKey": "uint32", "sSubKeyName": "string", "sValueName": "string"}, {"uValue": "uint32"}
            )
        },
    ),
    "MSFT_MpComputerStatus": CimClass(
        DEFENDER, ("ComputerID",), {"ComputerID": "string", "RealTimeProtectionEnabled": "boolean"}
    ),
    "MSFT_MpPreference": CimClass(
        DEFENDER,
        ("ComputerID",),
        {
            "ComputerID": "string",
            "AttackSurfaceReductionRules_Ids": "string[]",
            "AttackSurfaceReductionRules_Actions": "uint8[]",
        },
    ),
    "Win32_Process": CimClass(
        CIMV2,
        ("Handle",),
        {
            "Handle": "string",
            "Name": "string",
            "Caption": "string",
            "ProcessId": "uint32",
            "CreationDate": "datetime",
        },
    ),
    "Win32_Volume": CimClass(
        CIMV2,
        ("DeviceID",),
        {
            "DeviceID": "string",
            "Name": "string",
            "Caption": "string",
            "DriveLetter": "string",
            "Label": "string",
            "FileSystem": "string",
            "DriveType": "uint32",
            "BlockSize": "uint64",
            "Capacity": "uint64",
            "FreeSpace": "uint64",
        },
    ),
}

ASSOCIATIONS = (
    "Msvm_AffectedJobElement",
    "Msvm_MostCurrentSnapshotInBranch",
    "Msvm_ReferencePointOfVirtualSystem",
    "Msvm_SettingsDefineState",
    "Msvm_SnapshotOfVirtualSystem",
    "Msvm_VirtualSystemSettingDataComponent",
)

# GuestBackupType came with Windows Server 1709, build 16299 (docs/hyperv-facts.md#checkpoint-settings).
GUEST_BACKUP_BUILD = 16299
