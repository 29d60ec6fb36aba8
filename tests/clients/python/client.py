"""The stock realtime-py, and a channel whose messages are written down."""

import itertools
import logging
import os

from realtime import AsyncRealtimeClient

from stack import URL, anon, until

SUBSCRIBED = "Subscribed to PostgreSQL"

# The client logs each lost connection as an error; here they are lost on purpose.
logging.getLogger("realtime").setLevel(logging.CRITICAL)
# unittest debugs asyncio, which then remarks on every SQL statement of a test.
logging.getLogger("asyncio").setLevel(logging.ERROR)

_topics = (f"feed-{os.getpid()}-{n}" for n in itertools.count())


async def connect(test, access_token=None):
    """A client that is closed when the test ends."""
    client = AsyncRealtimeClient(f"{URL}/realtime/v1", token=anon(), max_retries=12, initial_backoff=0.05)
    test.addAsyncCleanup(client.close)
    if access_token:
        await client.set_auth(access_token)
    await client.connect()
    return client


class Feed:
    """A joined channel; one list of changes per binding."""

    def __init__(self, client):
        self.channel = client.channel(next(_topics))
        self.received = []
        self.states = []
        self.errors = []
        self.n_live = 0

    async def join(self, bindings):
        """Joins with bindings like `{"table": "items", "filter": …}`."""
        for position, binding in enumerate(bindings):
            self.channel.on_postgres_changes(
                binding.get("event", "*"),
                lambda payload, position=position: self.received.append((position, payload["data"])),
                table=binding["table"],
                schema="public",
                filter=binding.get("filter"),
                select=binding.get("select"),
            )
        self.channel.on_system(self._system)
        await self.channel.subscribe(self._state)
        return self

    def _system(self, payload):
        self.n_live += payload.message == SUBSCRIBED

    def _state(self, state, error):
        self.states.append(state.value)
        if error:
            self.errors.append(str(error))

    def changes(self, position=0):
        """The changes that one binding received."""
        return [data for at, data in self.received if at == position]

    def rows(self, position=0):
        """The new rows that one binding received."""
        return [data.get("record") for data in self.changes(position)]


async def follow(client, bindings):
    """Joins and waits until the bindings are live."""
    feed = await Feed(client).join(bindings)
    await until("the subscription is live", lambda: feed.n_live or feed.errors)
    if feed.errors:
        raise AssertionError(feed.errors)
    return feed
