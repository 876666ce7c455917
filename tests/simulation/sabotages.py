"""none yet"""

from typing import Any

BY_NAME: dict[str, Any] = {}
