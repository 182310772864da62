"""Where images come from (folder, list, glob, tar, pixel file) and decoding to upright RGB.

``find.py`` names the images of a source, ``decode.py`` turns the bytes of one into pixels. To read
another file format, add a line to ``FORMATS`` in ``formats.py``.
"""
