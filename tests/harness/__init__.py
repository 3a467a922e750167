"""What the tests share. Names of what a test run makes begin with ``SESSION``: runs do not see each other."""

from __future__ import annotations

import os

SESSION = f"{os.getpid():x}"
