"""Archives and root file systems, as the storage helpers need them; imports no service.

``streams`` digests and decompresses · ``tarfmt`` strict reading of tar headers · ``extract`` tar -> tree ·
``pack`` tree -> tar · ``rootfs`` private mounts and chroot · ``syscalls`` what ``os`` lacks.
"""
