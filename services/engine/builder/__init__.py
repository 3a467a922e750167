"""The classic builder: a Dockerfile and a context become an image, step by step.

``dockerfile`` (text to instructions, no I/O) · the rest executes them with the engine's own containers,
layers and images.
"""
