"""The jobs as programs: each has `build(root, config)`, which knows no runner, and `main(argv)`, which owns flags."""
