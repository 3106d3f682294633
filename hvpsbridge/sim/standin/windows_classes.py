"""WMI classes of Windows itself: system, computer, processes, volumes, registry, Defender."""

from __future__ import annotations

from hvpsbridge.sim.standin.cim_class import CimClass, Method

CIMV2 = "root/cimv2"
DEFENDER = "root/microsoft/windows/defender"

WINDOWS_CLASSES: dict[str, CimClass] = {
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
