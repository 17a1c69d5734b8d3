"""The public test kit.

Owns: nothing but the name. Import the module that you need, such as
`aumai_transactions.testing.store_contract`.
"""
