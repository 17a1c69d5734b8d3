"""The trip services that the first run uses, and the story told about them.

Owns: three services that are nobody's dependency. They stand here as somebody else's systems
would: in processes of their own, with databases of their own, reached over HTTP only.
"""
