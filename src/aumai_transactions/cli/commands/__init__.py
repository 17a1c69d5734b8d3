"""The commands, by what they are for.

Owns: one click command for each name in `group.SECTIONS`, called `<name>_command`.
"""
