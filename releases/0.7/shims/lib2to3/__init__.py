# shakenfist-utilities 0.5.1 imports lib2to3, which Python 3.13 no longer has, and uses nothing of it.
# Newer shakenfist-utilities drop the import but break 0.7.2's API.
