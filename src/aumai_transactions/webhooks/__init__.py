"""Telling others over HTTP of what has happened."""

from aumai_transactions.webhooks.sender import Sent, WebhookSender

__all__ = ["Sent", "WebhookSender"]
