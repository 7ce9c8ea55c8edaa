"""Bind the C core: the only package that knows ctypes."""
