"""Two agents create a user and welcome her; the second agent fails, and the user is removed.

python examples/quickstart.py
"""

from typing import Any

from aumai_transactions import TransactionManager

users: dict[str, str] = {}


def create_user(action: str, data: dict[str, Any]) -> None:
    users[data["user_id"]] = data["name"]


def delete_user(action: str, data: dict[str, Any]) -> None:
    users.pop(data["user_id"], None)


def send_welcome_email(action: str, data: dict[str, Any]) -> None:
    if "@" not in data["email"]:
        raise ValueError(f"{data['email']!r} is not an address")


def main() -> None:
    manager = TransactionManager(
        action_handlers={
            "create_user": create_user,
            "delete_user": delete_user,
            "send_welcome_email": send_welcome_email,
        }
    )
    for name, email in [("Alice", "alice@example.com"), ("Bob", "bob at example.com")]:
        tx = manager.begin(timeout_seconds=30)
        data = {"user_id": name.lower(), "name": name}
        manager.add_step(tx, "user_agent", "create_user", data, "delete_user")
        manager.add_step(tx, "email_agent", "send_welcome_email", {"email": email})
        result = manager.commit(tx)
        print(result)
        print(f"  users now: {users}\n")
    assert users == {"alice": "Alice"}


if __name__ == "__main__":
    main()
