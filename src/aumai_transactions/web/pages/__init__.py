"""The pages that people see.

Owns: nothing but the folder.
"""
