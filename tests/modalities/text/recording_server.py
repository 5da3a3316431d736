"""The tests' server, which also keeps each request's body.

`python -m tests.modalities.text.recording_server FILE ...`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.modalities.text.server import invented, main


def recorder(path: Path) -> Callable[[dict[str, Any]], str]:
    """Answers as the server does, and keeps what was asked."""

    def answer(body: dict[str, Any]) -> str:
        with path.open("a") as file:
            file.write(json.dumps(body) + "\n")
        return invented(body)

    return answer


if __name__ == "__main__":
    main(sys.argv[2:], lambda: recorder(Path(sys.argv[1])))
