"""promtool, the checker of Prometheus: from the PATH, or where `make` puts it."""

import shutil
from pathlib import Path
from typing import Final

PROMTOOL: Final = shutil.which("promtool") or str(Path(__file__).resolve().parents[2] / ".tools" / "promtool")
