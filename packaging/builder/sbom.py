"""The SBOM: the libraries in the packages that other projects wrote, as CycloneDX JSON (ECMA-424)."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from builder.vendored import Library


def sbom(name: str, version: str, libraries: Sequence[Library], built_at: int) -> str:
    """The SBOM of a package that carries `libraries`. The same input gives the same text."""
    parts = [_component(library) for library in libraries]
    reference = f"{name}@{version}"
    contents = json.dumps([reference, parts])
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, contents)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(built_at, UTC).isoformat().replace("+00:00", "Z"),
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": parts,
        "dependencies": [
            {"ref": reference, "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(library: Library) -> dict[str, Any]:
    purl = f"pkg:pypi/{library.name}@{library.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": library.name,
        "version": library.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": library.sha256}],
        "licenses": [{"license": {"id": library.license}}],
        "copyright": f"Copyright (c) {library.copyright}",
    }
