"""The generator of the tables."""

from __future__ import annotations

import re

from tests.documented.tables import table
from tools.documented import cmdlets as cmdlet_pages
from tools.documented import wmi as wmi_pages


def test_sources_are_named() -> None:
    for name in ("wmi", "cmdlets"):
        source = table(name)["source"]
        assert source["repository"].startswith("MicrosoftDocs/")
        assert re.fullmatch("[0-9a-f]{40}", source["commit"])
    assert re.fullmatch(r"[\d.]+", table("virtdisk")["source"]["version"])


CLASS_PAGE = """
``` syntax
[Dynamic, AMENDMENT]
class Toy_Thing : CIM_Thing
{
  string   Name = "x";
  uint16   States[];
  CIM_Thing REF Owner;
};
```

### Properties

<dl> <dt>

**Name**
</dt> <dd> <dl> <dt>

Data type: **string**
</dt> <dt>

Qualifiers: **Key**, **MaxLen** (64)
</dt> </dl>

</dd> <dt>

**States**
</dt> <dd> <dl> <dt>

Data type: **uint16** array
</dt> </dl>

| <span id="OK"></span><dl> <dt>**OK**</dt> <dt>2</dt> </dl> | Fine. |

**In Service** (11)

## Remarks

**Nothing** (5)
"""


PAGE = ".md"
THING, RUN = (f"desktop-src/HyperV_v2/{name}{PAGE}" for name in ("toy-thing", "run-toy-thing"))


class Pages:
    """A repository with one class and one method."""

    paths = frozenset({THING, RUN})

    def source(self) -> dict[str, str]:
        return {"repository": "toys", "commit": "0"}

    def read(self, path: str) -> str:
        if "run-" in path:
            return (
                "uint32 Run(\n  [in]      string        Text,\n  [in, out] CIM_Thing REF Result,\n"
                "  [out]     uint64        Parts[]\n);\n## Return value\n**Done** (0)\n## Remarks\n**No** (9)"
            )
        return CLASS_PAGE


def test_a_page_becomes_a_row() -> None:
    made = wmi_pages.wmi_table(Pages(), {"Toy_Thing", "Toy_None"}, [("Toy_Thing", "Run")])  # type: ignore[arg-type]
    assert made["missing"] == ["CIM_Thing", "Toy_None"]
    assert made["classes"]["Toy_Thing"] == {
        "path": THING,
        "base": "CIM_Thing",
        "properties": {"Name": "string", "States": "uint16[]", "Owner": "ref:CIM_Thing"},
        "keys": ["Name"],
        "values": {"States": {"2": "OK", "11": "In Service"}},
    }
    assert made["methods"]["Toy_Thing.Run"] == {
        "path": RUN,
        "in": {"Text": "string", "Result": "ref:CIM_Thing"},
        "out": {"Result": "ref:CIM_Thing", "Parts": "uint64[]"},
        "returns": {"0": "Done"},
    }


def test_a_cmdlet_becomes_a_row() -> None:
    page = (
        "### -Kind\nWhich.\n\n```yaml\nType: Kind\nAliases: Sort\nAccepted values: A, B\n```\n\n"
        "### -Old\nAllowed values are **C** and **D**.\n\n```yaml\nType: Microsoft.Old[]\n```\n"
        "## OUTPUTS\n\n### Some.Thing\n\n## NOTES\n"
    )

    class Cmdlets(Pages):
        paths = frozenset({"docset/winserver2025-ps/Hyper-V/Get-Toy" + PAGE})

        def read(self, path: str) -> str:
            return page

    made = cmdlet_pages.cmdlet_table(Cmdlets(), ["Get-Toy"], ["Kind", "Old", "None"])  # type: ignore[arg-type]
    assert made["cmdlets"]["Get-Toy"] == {
        "outputs": ["Some.Thing"],
        "parameters": {"Kind": {"type": "Kind", "aliases": ["Sort"]}, "Old": {"type": "Microsoft.Old[]"}},
        "not_in": ["2016", "2019", "2022"],
    }
    assert {name: facts["names"] for name, facts in made["enums"].items()} == {
        "Kind": ["A", "B"],
        "Old": ["C", "D"],
    }
    assert made["missing"] == ["None"]
