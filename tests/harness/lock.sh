#!/bin/sh
# lock.sh: write requirements.txt and requirements-dev.txt from pyproject.toml.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for extra in "" "[dev]"; do
    python3 -m venv "$work/venv$extra"
    "$work/venv$extra/bin/pip" install --quiet --disable-pip-version-check --editable ".$extra"
    "$work/venv$extra/bin/pip" freeze --exclude-editable >"requirements${extra:+-dev}.txt"
done
