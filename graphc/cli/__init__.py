"""The commands of the command line (floor 8): one module each, each with `execute(options)`.

`graphc_cli` reads the command line and calls `graphc.cli.commands.execute`. Results go to stdout,
everything else to stderr.
"""
