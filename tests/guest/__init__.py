"""Tests that need a kernel with what the host's may lack; see ``tests.harness.guest``."""
