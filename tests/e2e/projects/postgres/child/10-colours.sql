INSERT colours red
INSERT colours green
