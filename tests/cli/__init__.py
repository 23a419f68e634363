"""The command line, run as its users run it: in a process of its own."""
