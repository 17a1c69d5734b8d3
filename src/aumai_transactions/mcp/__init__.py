"""The MCP gateway: anybody's tools, made transactional by what an operator declares about them.

Owns: nothing but the folder; `serving.serve` is where it begins. It needs the extra `mcp`.
"""
