"""A product in a few lines, which can be told to break its promises.

The story's tests run it in the place of the command line, to see that the story notices. Told
nothing, it is just good enough to be believed.
"""

import json
import sys
import tomllib
import urllib.error
import urllib.request
import uuid
from pathlib import Path

BREAKS, COMMAND, *ARGUMENTS = sys.argv[1:]
FOLDER = Path(ARGUMENTS[ARGUMENTS.index("--store") + 1] + ".folder")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def save(tx):
    part = FOLDER / f"{tx['id']}.part"
    part.write_text(json.dumps(tx))
    part.replace(FOLDER / f"{tx['id']}.json")


def call(tx, step, operation, again=""):
    name = "action" if operation == "action" else "compensating_action"
    key = f"{tx['id']}/{step['name']}"
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": f"{key}/{operation}{again}",
        "Aumai-Transaction": tx["id"],
    }
    if operation == "compensation":
        headers["Aumai-Compensates"] = f"{key}/action"
    url = tx["plan"]["actions"][step[name]]["url"]
    request = urllib.request.Request(url, json.dumps(step["data"]).encode(), headers)
    OPENER.open(request, timeout=90).close()


def go_on(tx):
    steps = tx["plan"]["steps"]
    while tx["intents"] < len(steps):
        tx["intents"] += 1
        save(tx)
        try:
            call(tx, steps[tx["intents"] - 1], "action")
        except urllib.error.HTTPError:
            tx["intents"] -= 1
            go_back(tx)
            return 3
    tx["state"] = "committed"
    save(tx)
    return 0


def go_back(tx):
    undone = tx["plan"]["steps"][: tx["intents"]]
    if BREAKS == "undo":
        undone = undone[1:]
    for step in reversed(undone):
        call(tx, step, "compensation")
    tx["state"] = "rolled_back"
    save(tx)


def recover(tx):
    last = tx["plan"]["steps"][tx["intents"] - 1]
    if tx["plan"]["actions"][last["action"]]["idempotent"]:
        tx["intents"] -= 1
        go_on(tx)
        if BREAKS == "keys":
            call(tx, tx["plan"]["steps"][-1], "action", again="/again")
    elif BREAKS != "recovery of doubt":
        go_back(tx)
    else:
        tx["intents"] -= 1
        go_back(tx)


def main():
    FOLDER.mkdir(exist_ok=True)
    match COMMAND:
        case "run" if BREAKS == "run":
            print("out of order", file=sys.stderr)
            return 1
        case "run":
            plan = tomllib.loads(Path(ARGUMENTS[0]).read_text("utf-8"))
            tx = {"id": str(uuid.uuid4()), "state": "active", "intents": 0, "plan": plan}
            return go_on(tx)
        case "recover" if BREAKS != "recovery":
            for path in sorted(FOLDER.glob("*.json")):
                tx = json.loads(path.read_text())
                if tx["state"] == "active":
                    recover(tx)
        case "status":
            tx = json.loads((FOLDER / f"{ARGUMENTS[1]}.json").read_text())
            print(json.dumps({"state": tx["state"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
