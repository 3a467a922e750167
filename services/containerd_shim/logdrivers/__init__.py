"""Where a container's output is kept.

``base`` the contract · ``split`` output -> lines · ``json_file``, ``local``, ``none`` the drivers ·
``files`` one log's files and their rotation · ``options`` what a user may say · ``reader`` and
``render`` reading it back.
"""
