"""Broadcasts between clients, and over HTTP."""

import itertools
import os
import unittest

from client import connect
from stack import healthy, until

_topics = (f"talk-{os.getpid()}-{n}" for n in itertools.count())


async def listen(client, topic, **broadcast):
    """Joins a topic and writes down the broadcasts named `e`."""
    heard, states = [], []
    config = {"broadcast": {"ack": False, "self": False, **broadcast}, "presence": {"key": "", "enabled": False}, "private": False}
    channel = client.channel(topic, {"config": config})
    channel.on_broadcast("e", lambda message: heard.append((message["event"], message["payload"])))
    await channel.subscribe(lambda state, error: states.append(state.value))
    await until("the channel is joined", lambda: "SUBSCRIBED" in states)
    return channel, heard


class Broadcast(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await healthy()

    async def test_a_broadcast_reaches_the_others_in_order(self):
        topic = next(_topics)
        sender, heard_by_sender = await listen(await connect(self), topic)
        _, heard = await listen(await connect(self), topic)
        _, heard_elsewhere = await listen(await connect(self), next(_topics))
        for n in range(100):
            await sender.send_broadcast("e", {"n": n, "text": "ä"})
        await until("all of them", lambda: len(heard) == 100)
        self.assertEqual(heard, [("e", {"n": n, "text": "ä"}) for n in range(100)])
        self.assertEqual((heard_by_sender, heard_elsewhere), ([], []))

    async def test_the_sender_hears_itself_when_it_asks_for_that(self):
        sender, heard = await listen(await connect(self), next(_topics), **{"self": True, "ack": True})
        await sender.send_broadcast("e", {"n": 1})
        await until("the copy", lambda: heard)
        # A refusal does not disturb the client.
        await sender.send_broadcast("e", {"text": "x" * 3_100_000})
        await sender.send_broadcast("e", {"n": 2})
        await until("the second copy", lambda: len(heard) == 2)
        self.assertEqual(heard, [("e", {"n": 1}), ("e", {"n": 2})])

    async def test_who_has_not_joined_sends_over_http(self):
        topic = next(_topics)
        _, heard = await listen(await connect(self), topic)
        client = await connect(self)
        await client.channel(topic).http_send("e", {"n": 1})
        await until("the message", lambda: heard)
        self.assertEqual(heard, [("e", {"n": 1})])


if __name__ == "__main__":
    unittest.main()
