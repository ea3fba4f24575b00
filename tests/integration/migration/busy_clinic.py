"""A clinic at work: seeded inserts, edits and deletions in a MongoDB. Run as a process: URI DATABASE SEED OPERATIONS."""

import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

BEGAN = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
ROOMS = 30


def room(number: int, **more: Any) -> dict[str, Any]:
    token = f"visitor-token-{number:03}"
    return {
        "_id": f"room{number:03}", "t": "l" if number % 3 else "c", "name": f"sala {number}", "ts": BEGAN, "open": True,
        "v": {"_id": f"visitor{number}", "username": f"guest-{number}", "token": token},
        "source": {"type": "widget"}, "_updatedAt": BEGAN,
    } | more  # fmt: skip


def message(number: int, at: int, text: str = "bom dia") -> dict[str, Any]:
    return {
        "_id": f"message{number:03}x{at:05}", "rid": f"room{number:03}", "msg": text, "ts": BEGAN + timedelta(minutes=at),
        "token": f"visitor-token-{number:03}", "u": {"_id": f"visitor{number}", "username": f"guest-{number}"},
        "_updatedAt": BEGAN + timedelta(minutes=at),
    }  # fmt: skip


def fill(mongo: Database[Any], messages: int = 20) -> None:
    mongo["rocketchat_room"].insert_many([room(number) for number in range(ROOMS)])
    mongo["rocketchat_message"].insert_many(
        [message(number, at) for number in range(ROOMS) for at in range(messages)]
    )
    mongo["users"].insert_many(
        [{"_id": f"user{n}", "username": f"agent{n}", "type": "user"} for n in range(20)]
    )
    mongo["rocketchat_subscription"].insert_many(
        [{"_id": f"sub{n}", "rid": f"room{n:03}", "u": {"_id": "user1"}, "unread": 0} for n in range(ROOMS)]
    )


def work(mongo: Database[Any], dice: random.Random, number: int) -> None:
    """One operation."""
    place = dice.randrange(ROOMS + 10)
    messages, rooms, subscriptions = (
        mongo[name] for name in ("rocketchat_message", "rocketchat_room", "rocketchat_subscription")
    )
    known = {"rid": f"room{place:03}"}
    match dice.randrange(9):
        case 0 | 1 | 2:
            rooms.update_one(
                {"_id": f"room{place:03}"}, {"$setOnInsert": _new(place), "$inc": {"msgs": 1}}, upsert=True
            )
            messages.insert_one(message(place, 10_000 + number))
        case 3 | 4:
            messages.update_one(
                known,
                {"$set": {"msg": f"editada {number}", "editedAt": BEGAN, "_updatedAt": datetime.now(UTC)}},
            )
        case 5:
            messages.delete_one(known)
        case 6:
            found = messages.find_one(known)
            if found is not None:  # gone and back under its id
                messages.delete_one({"_id": found["_id"]})
                messages.insert_one(found | {"msg": f"de volta {number}"})
        case 7:
            # No time of change: which version is newer cannot be told by the document.
            subscriptions.update_one({"_id": f"sub{place}"}, {"$inc": {"unread": 1}}, upsert=True)
        case _:
            subscriptions.delete_one({"_id": f"sub{place}"})


def _new(number: int) -> dict[str, Any]:
    return {name: value for name, value in room(number).items() if name != "_id"}


def main() -> None:
    uri, database, seed, operations = sys.argv[1:]
    dice = random.Random(int(seed))
    with MongoClient[dict[str, Any]](uri) as client:
        for number in range(int(operations)):
            work(client[database], dice, number)
            time.sleep(0.001)


if __name__ == "__main__":
    main()
