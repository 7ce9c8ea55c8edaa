"""Compile the extension. It links hiredis, and not corkbind: the capsule has corkbind's functions."""

from setuptools import Extension, setup

import corkbind

setup(
    packages=[],
    ext_modules=[
        Extension(
            "redis_keys",
            ["src/module.c", "src/keys.c", "src/redis_loop.c"],
            depends=["src/keys.h", "src/redis_loop.h"],
            include_dirs=[corkbind.get_include()],
            libraries=["hiredis"],
            extra_compile_args=["-std=c11", "-Wall", "-Wextra"],
        )
    ],
)
