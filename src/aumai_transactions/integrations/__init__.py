"""Where the agents are: adapters to agent frameworks, one file each.

Owns: what they have in common; `import aumai_transactions.integrations` imports no framework.
"""

from aumai_transactions.integrations.offered import roll_back_transaction, transaction_status
from aumai_transactions.integrations.tool_calls import (
    Others,
    Rules,
    ToolCall,
    ToolCalls,
    is_for_the_model,
)
from aumai_transactions.integrations.tool_rules import READ, ToolRule

__all__ = [
    "READ",
    "Others",
    "Rules",
    "ToolCall",
    "ToolCalls",
    "ToolRule",
    "is_for_the_model",
    "roll_back_transaction",
    "transaction_status",
]
