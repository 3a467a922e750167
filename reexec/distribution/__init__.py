"""A client of registries (OCI distribution specification v2), for helper processes: it blocks.

Everything here is imported by helpers alone, after their fork: the HTTP library costs memory that the
zygote need not have.
"""
