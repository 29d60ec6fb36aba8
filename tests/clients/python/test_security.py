"""Row security, token refresh and refusals."""

import unittest

from client import Feed, connect, follow
from stack import anon, healthy, sql, token, until, user


def add(owner, body):
    [[id]] = sql("insert into notes (owner, body) values (cast(:owner as uuid), :body) returning id", owner=owner, body=body)
    return id


def bodies(feed):
    return [row["body"] for row in feed.rows()]


class Security(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await healthy()

    async def test_each_user_sees_their_own_rows_only(self):
        (ann, ann_token), (bob, bob_token) = user(), user()
        seen_by_ann = await follow(await connect(self, ann_token), [{"table": "notes"}])
        seen_by_bob = await follow(await connect(self, bob_token), [{"table": "notes"}])
        seen_by_anon = await follow(await connect(self, anon()), [{"table": "notes"}, {"table": "items"}])
        seen_by_service = await follow(await connect(self, token(role="service_role")), [{"table": "notes"}])
        ids = [add(ann, "of Ann"), add(bob, "of Bob")]
        sql("delete from notes where id = any(:ids)", ids=ids)
        sql("insert into items (key) values ('the end')")
        add(ann, "last of Ann")
        add(bob, "last of Bob")
        await until("Ann's last row", lambda: len(seen_by_ann.received) >= 3)
        await until("Bob's last row", lambda: len(seen_by_bob.received) >= 3)
        await until("everybody's rows", lambda: len(seen_by_service.received) >= 6)
        await until("the public row", lambda: seen_by_anon.rows(1))

        def story(feed):
            return [
                (data["type"], (data.get("record") or data.get("old_record"))["body"]) for data in feed.changes()
            ]

        for feed, name in [(seen_by_ann, "Ann"), (seen_by_bob, "Bob")]:
            expected = [("INSERT", f"of {name}"), ("DELETE", f"of {name}"), ("INSERT", f"last of {name}")]
            self.assertEqual(story(feed), expected)
        self.assertEqual(seen_by_anon.rows(0), [])

    async def test_another_token_changes_what_is_seen(self):
        (ann, ann_token), (bob, bob_token) = user(), user()
        client = await connect(self, ann_token)
        feed = await follow(client, [{"table": "notes"}])
        add(ann, "Ann, before")
        add(bob, "Bob, before")
        await until("the row of Ann", lambda: len(feed.received) == 1)
        await client.set_auth(bob_token)
        await until("the subscription is live again", lambda: feed.n_live == 2)
        add(ann, "Ann, after")
        add(bob, "Bob, after")
        await until("the row of Bob", lambda: len(feed.received) == 2)
        self.assertEqual(bodies(feed), ["Ann, before", "Bob, after"])

    async def test_a_wrong_subscription_is_told_why_and_others_go_on(self):
        client = await connect(self)
        good = await follow(client, [{"table": "items"}])
        for binding, expected in [
            ({"table": "items", "filter": "nothing=eq.1"}, "invalid column for filter nothing"),
            ({"table": "items", "select": ["nothing"]}, "invalid column for select nothing"),
            ({"table": "items", "filter": "n=eq.abc"}, "invalid input syntax for type integer"),
            ({"table": "unpublished"}, "Please check Realtime is enabled"),
        ]:
            with self.subTest(binding):
                feed = await Feed(client).join([binding])
                await until("the refusal", lambda: feed.errors)
                self.assertIn(expected, feed.errors[0])
                self.assertEqual(feed.states[:2], ["SUBSCRIBED", "CHANNEL_ERROR"])
                # The client would join again and again.
                await client.remove_channel(feed.channel)
        sql("insert into items (key) values ('still here')")
        await until("the row", lambda: len(good.received) == 1)
