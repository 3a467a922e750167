"""Imported first by the processes that never speak TLS: asyncio and http.client go without ``ssl``.

It costs each process 0.8 MB, for nothing (``docs/performance.md``). Both libraries allow for a Python
that was built without it.
"""

from __future__ import annotations

import sys
from typing import Any, cast

cast("dict[str, Any]", sys.modules).setdefault("ssl", None)
