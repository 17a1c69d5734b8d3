"""The REST API, `/api/v1`.

Owns: nothing but the folder.
"""
