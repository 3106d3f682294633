"""WMI classes of the simulated host: their properties with CIM types, keys, and methods' parameters.

A class or property that is not here does not exist on the simulated host, and asking for it is an error
(docs/hyperv-facts.md#wmi-classes).
"""

from __future__ import annotations

from hvpsbridge.sim.standin.cim_class import CimClass, Method
from hvpsbridge.sim.standin.windows_classes import WINDOWS_CLASSES

VIRTUALIZATION = "root/virtualization/v2"


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


# Properties that planned VMs have, too.
_COMPUTER = {
    "CreationClassName": "string",
    "Name": "string",
    "ElementName": "string",
    "Caption": "string",
    "Description": "string",
    "EnabledState": "uint16",
    "HealthState": "uint16",
    "OperationalStatus": "uint16[]",
    "InstallDate": "datetime",
}

_JOB = "ref:Msvm_ConcreteJob"
_SETTINGS = "ref:Msvm_VirtualSystemSettingData"
_POINT = "ref:Msvm_VirtualSystemReferencePoint"
_SYSTEM = "ref:Msvm_ComputerSystem"
_PLANNED = "ref:Msvm_PlannedComputerSystem"
_RESOURCE = "ref:CIM_ResourceAllocationSettingData"

_HYPER_V_CLASSES: dict[str, CimClass] = {
    "Msvm_ComputerSystem": CimClass(
        VIRTUALIZATION,
        ("CreationClassName", "Name"),
        {
            **_COMPUTER,
            "StatusDescriptions": "string[]",
            "OnTimeInMilliseconds": "uint64",
            "ProcessID": "uint32",
            "ReplicationMode": "uint16",
            "ReplicationState": "uint16",
            "ReplicationHealth": "uint16",
        },
    ),
    "Msvm_PlannedComputerSystem": CimClass(VIRTUALIZATION, ("CreationClassName", "Name"), _COMPUTER),
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
            "SuspendDataRoot": "string",
            "SwapFileDataRoot": "string",
            "GuestStateDataRoot": "string",
            "CreationTime": "datetime",
            "AutomaticStartupAction": "uint16",
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
    "Msvm_EthernetPortAllocationSettingData": CimClass(
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
            "EnabledState": "uint16",
            "LastKnownSwitchName": "string",
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
        {
            "DestroySystem": Method({"AffectedSystem": _SYSTEM}, {"Job": _JOB}),
            "ImportSystemDefinition": Method(
                {
                    "SystemDefinitionFile": "string",
                    "SnapshotFolder": "string",
                    "GenerateNewSystemIdentifier": "boolean",
                },
                {"ImportedSystem": _PLANNED, "Job": _JOB},
            ),
            "ModifyResourceSettings": Method(
                {"ResourceSettings": "string[]"}, {"ResultingResourceSettings": f"{_RESOURCE}[]", "Job": _JOB}
            ),
            "ModifySystemSettings": Method({"SystemSettings": "string"}, {"Job": _JOB}),
            "RealizePlannedSystem": Method(
                {"PlannedSystem": _PLANNED}, {"ResultingSystem": _SYSTEM, "Job": _JOB}
            ),
            "RemoveResourceSettings": Method({"ResourceSettings": f"{_RESOURCE}[]"}, {"Job": _JOB}),
            "ValidatePlannedSystem": Method({"PlannedSystem": _PLANNED}, {"Job": _JOB}),
        }
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
}

CLASSES = _HYPER_V_CLASSES | WINDOWS_CLASSES

ASSOCIATIONS = (
    "Msvm_AffectedJobElement",
    "Msvm_MostCurrentSnapshotInBranch",
    "Msvm_ReferencePointOfVirtualSystem",
    "Msvm_SettingsDefineState",
    "Msvm_SnapshotOfVirtualSystem",
    "Msvm_VirtualSystemSettingDataComponent",
)

# Properties that came with Windows Server 1709, build 16299 (docs/hyperv-facts.md#checkpoint-settings).
BUILD_1709 = 16299
SINCE_1709 = {
    "Msvm_VirtualSystemSnapshotSettingData": "GuestBackupType",
    "Msvm_VirtualSystemSettingData": "GuestStateDataRoot",
}
