"""Presence: sync, join and leave events, and the state."""

import itertools
import os
import unittest

from client import connect
from stack import healthy, until

_rooms = (f"presence-py-{os.getpid()}-{n}" for n in itertools.count())


class Guest:
    """A channel of a room that writes down what happens there."""

    def __init__(self, client, room, key):
        self.key = key
        self.events = []
        self.n_syncs = 0
        self.channel = client.channel(room, {"config": {"presence": {"key": key, "enabled": True}}})
        self.channel.on_presence_sync(self._sync)
        self.channel.on_presence_join(lambda key, _, new: self.events.append(("join", key, bare(new))))
        self.channel.on_presence_leave(lambda key, _, left: self.events.append(("leave", key, bare(left))))

    def _sync(self):
        self.n_syncs += 1

    async def enter(self):
        """Joins and waits until told who is there."""
        await self.channel.subscribe()
        await until(f"{self.key} is told who is there", lambda: self.n_syncs)
        return self

    def everybody(self):
        """Who is there, by key."""
        return {key: bare(presences) for key, presences in self.channel.presence_state().items()}


def bare(presences):
    """Presences without the names the server gives them."""
    return [{name: value for name, value in presence.items() if name != "presence_ref"} for presence in presences]


class Presence(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await healthy()

    async def test_guests_see_each_other_come_change_and_go(self):
        room = next(_rooms)
        ann = await Guest(await connect(self), room, "ann").enter()
        bob = await Guest(await connect(self), room, "bob").enter()
        self.assertEqual(bob.everybody(), {})

        await ann.channel.track({"mood": "curious"})
        for guest in ann, bob:
            await until(f"{guest.key} sees ann", lambda: guest.events)
            self.assertEqual(guest.events, [("join", "ann", [{"mood": "curious"}])])

        eve = await Guest(await connect(self), room, "eve").enter()
        self.assertEqual(eve.everybody(), {"ann": [{"mood": "curious"}]})

        await ann.channel.track({"mood": "glad"})
        await until("the change", lambda: eve.everybody() == {"ann": [{"mood": "glad"}]})
        await ann.channel.untrack()
        await until("ann is gone", lambda: eve.everybody() == {})
        self.assertEqual(eve.events[-1], ("leave", "ann", [{"mood": "glad"}]))

    async def test_a_lost_connection_leaves(self):
        room = next(_rooms)
        bob = await Guest(await connect(self), room, "bob").enter()
        client = await connect(self)
        ann = await Guest(client, room, "ann").enter()
        await ann.channel.track({})
        await until("ann is there", lambda: "ann" in bob.everybody())
        await client.close()
        await until("ann is gone", lambda: "ann" not in bob.everybody())
