"""The page, the REST API and the metrics of a store: `aumai-transactions serve`.

Owns: nothing but the folder. Needs the extra `web`.
"""
