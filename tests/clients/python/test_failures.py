"""What the stream survives: restarts and a killed backend."""

import unittest

from client import connect, follow
from stack import control, healthy, is_healthy, sql, until


def insert(first, last):
    sql(
        "insert into items (key, n) select 'failures', i from generate_series(cast(:a as int), cast(:b as int)) i",
        a=first,
        b=last,
    )


def numbers(feed):
    return [row["n"] for row in feed.rows()]


class Failures(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await healthy()
        self.feed = await follow(await connect(self), [{"table": "items"}])
        insert(1, 3)
        await until("the rows before", lambda: len(self.feed.received) == 3)

    async def test_a_restarted_server_is_found_again(self):
        await control("walcast", "restart")
        await healthy()
        await until("the subscription is live again", lambda: self.feed.n_live >= 2)
        insert(4, 6)
        await until("the rows after", lambda: len(self.feed.received) >= 6)
        self.assertEqual(numbers(self.feed), [1, 2, 3, 4, 5, 6])

    async def test_a_terminated_walsender_loses_nothing_and_repeats_nothing(self):
        killed = sql(
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            " where slot_name = 'client_tests' and active"
        )
        self.assertEqual(len(killed), 1)
        insert(4, 100)
        await until("all rows", lambda: len(self.feed.received) >= 100)
        self.assertEqual(numbers(self.feed), list(range(1, 101)))
        await healthy()

    async def test_a_restarted_postgresql_loses_nothing_and_repeats_nothing(self):
        await control("postgres", "stop")
        await until("walcast says that the database is gone", lambda: not is_healthy())
        await control("postgres", "start")
        insert(4, 100)
        await until("all rows", lambda: len(self.feed.received) >= 100, 60)
        self.assertEqual(numbers(self.feed), list(range(1, 101)))
        await healthy()
