"""Documents of the Engine API, under Docker's field names (Engine API 1.56 OpenAPI).

The API server decodes and encodes them; the engine fills them and stores some of them. A field that
Go marks ``omitempty`` is ``UNSET`` when absent; a nil slice or map is ``None`` and shows as null.
"""
