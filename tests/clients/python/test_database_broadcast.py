"""Broadcasts that SQL sends."""

import itertools
import os
import unittest

from client import connect
from stack import healthy, sql, until
from test_broadcast import listen

_topics = (f"said-{os.getpid()}-{n}" for n in itertools.count())


class DatabaseBroadcast(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await healthy()

    async def test_what_sql_sends_arrives_in_the_order_of_its_transaction(self):
        topic = next(_topics)
        _, heard = await listen(await connect(self), topic)
        sql(
            "select realtime.send(jsonb_build_object('n', n, 'id', 'mine'), 'e', :topic, false)"
            " from generate_series(1, 50) as n",
            topic=topic,
        )
        await until("all of them", lambda: len(heard) == 50)
        self.assertEqual(heard, [("e", {"n": n, "id": "mine"}) for n in range(1, 51)])

    async def test_the_payload_gets_the_id_of_the_message(self):
        topic = next(_topics)
        _, heard = await listen(await connect(self), topic)
        sql("select realtime.send('{}', 'e', :topic, false)", topic=topic)
        await until("it", lambda: heard)
        [[stored]] = sql("select id::text from realtime.messages where topic = :topic", topic=topic)
        self.assertEqual(heard, [("e", {"id": stored})])


if __name__ == "__main__":
    unittest.main()
