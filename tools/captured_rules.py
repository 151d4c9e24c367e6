"""Write data/captured-rules.json: which rules a capture shows, each with one capture whose answer it is part of.

    pytest --fired=FIRED.json                      the whole suite: a run of some tests alone finds fewer
    python tools/captured_rules.py FIRED.json

tests/reasons/test_captured.py says when this is to be run again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "src" / "vcpuid" / "data" / "captured-rules.json"


def text(fired: dict[str, Any]) -> str:
    """Lay the table out; `fired` is what pytest's --fired writes."""
    source = "a run of the tests with --fired, written by tools/captured_rules.py"
    return json.dumps({"source": source, **fired}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TABLE.write_text(text(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
