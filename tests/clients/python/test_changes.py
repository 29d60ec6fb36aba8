"""Insert, update, delete, column selection and every filter operator."""

import json
import unittest

from client import connect, follow
from stack import CLIENTS, healthy, sql, until


class Changes(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await healthy()

    async def test_an_inserted_updated_and_deleted_row_arrives(self):
        feed = await follow(await connect(self), [{"table": "items"}])
        [[id]] = sql(
            "insert into items (key, n, label, done, price) values ('whole', 7, 'ümlaut', true, 1.50) returning id"
        )
        sql("update items set n = 8 where id = :id", id=id)
        sql("delete from items where id = :id", id=id)
        await until("three changes", lambda: len(feed.received) == 3)

        inserted, updated, deleted = feed.changes()
        row = {"id": id, "key": "whole", "n": 7, "label": "ümlaut", "done": True, "price": 1.5, "note": None}
        self.assertEqual([data["type"] for data in feed.changes()], ["INSERT", "UPDATE", "DELETE"])
        self.assertEqual((inserted["schema"], inserted["table"], inserted["errors"]), ("public", "items", None))
        self.assertRegex(inserted["commit_timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            inserted["columns"],
            [
                {"name": "id", "type": "int8"},
                {"name": "key", "type": "text"},
                {"name": "n", "type": "int4"},
                {"name": "label", "type": "text"},
                {"name": "done", "type": "bool"},
                {"name": "price", "type": "numeric"},
                {"name": "note", "type": "text"},
            ],
        )
        self.assertEqual(inserted["record"], row)
        self.assertNotIn("old_record", inserted)
        self.assertEqual(updated["record"], {**row, "n": 8})
        self.assertEqual(updated["old_record"], {"id": id})
        self.assertNotIn("record", deleted)
        self.assertEqual(deleted["old_record"], {"id": id})

    async def test_each_binding_gets_the_events_it_asked_for(self):
        events = ["INSERT", "UPDATE", "DELETE", "*"]
        feed = await follow(await connect(self), [{"event": event, "table": "items"} for event in events])
        [[id]] = sql("insert into items (key) values ('events') returning id")
        sql("update items set n = 1 where id = :id", id=id)
        sql("delete from items where id = :id", id=id)
        await until("the delete", lambda: len(feed.changes(3)) == 3)
        for position, event in enumerate(events[:3]):
            self.assertEqual([data["type"] for data in feed.changes(position)], [event])

    async def test_select_delivers_those_columns_and_the_key(self):
        feed = await follow(await connect(self), [{"table": "items", "select": ["label"]}])
        [[id]] = sql("insert into items (key, n, label) values ('select', 3, 'seen') returning id")
        await until("the row", lambda: feed.received)
        self.assertEqual(feed.rows(), [{"id": id, "label": "seen"}])

    async def test_every_filter_lets_exactly_its_rows_through(self):
        examples = json.loads((CLIENTS / "filter-cases.json").read_text())
        cases, rows = examples["cases"], examples["rows"]
        # The last binding has no filter. A change reaches all bindings of a channel in one message,
        # so once it has the last row, the others have all they will get.
        bindings = [{"table": "items", "filter": filter} for filter, _ in cases] + [{"table": "items"}]
        feed = await follow(await connect(self), bindings)
        sql(
            "insert into items (key, n, label, done, price, note) select key, n, label, done, price, note"
            " from jsonb_populate_recordset(null::items, cast(:rows as jsonb))",
            rows=json.dumps(rows),
        )
        await until("the last row", lambda: len(feed.rows(len(cases))) == len(rows))
        got = [[case[0], "".join(row["key"] for row in feed.rows(at))] for at, case in enumerate(cases)]
        self.assertEqual(got, cases)
