"""Pictures of what a transaction did: SVG, Mermaid, and a page that needs nothing else.

Owns: nothing but the folder; `drawn` in each module makes one.
"""
