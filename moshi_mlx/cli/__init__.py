"""The command line: one file a command, and the terminal.

Read `main` and `options` first; `config_file` holds a person's own defaults of them. A command's file holds what
`--help` shows and imports the rest late; `talk` and `answer` are what chat and run do. On the terminal: `screen`
with `dashboard`, `words`, `keys` and `interruption`; `tables`, `plots` and reports.
"""
