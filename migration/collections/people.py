"""Users, visitors, contacts."""

from typing import Final

from migration.collections.secrets import without
from migration.collections.service import Fields, record

USER_SECRETS: Final = ("services", "e2e", "oauth", "inviteToken")
"""Passwords, logins, second factors, keys."""

clean_user = without(*USER_SECRETS)

# A visitor of before 0.5 is a user of type `visitor`; a bot's type is `bot`, an app's `app`.
user = record(
    # __rooms repeats the subscriptions.
    Fields(kind="type", name=("name", "username"), at=("createdAt",), without=(*USER_SECRETS, "__rooms"))
)

# One who asked to be forgotten is an _id and little else.
visitor = record(Fields(name=("name", "username"), at=("ts",)))

contact = record(Fields(name=("name",), at=("createdAt",)))
