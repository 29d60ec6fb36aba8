// Each filter operator over the wire: the cases are in ../filter-cases.json.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'

import { postgresChangesFilter } from '@supabase/realtime-js'

import { connect, follow, VERSIONS } from './client.mjs'
import { healthy, sql, until } from './stack.mjs'

await healthy()
const { rows, cases } = JSON.parse(await readFile(new URL('../filter-cases.json', import.meta.url), 'utf8'))

const insert = () =>
  sql(
    `insert into items (key, n, label, done, price, note)
     select key, n, label, done, price, note from jsonb_populate_recordset(null::items, $1)`,
    [JSON.stringify(rows)],
  )

for (const vsn of VERSIONS) {
  test(`${vsn}: every filter lets exactly its rows through`, async (t) => {
    // The last binding has no filter. A change reaches all bindings of a channel in one message, so
    // once it has the last row, the others have all they will get.
    const bindings = [...cases.map(([filter]) => ({ table: 'items', filter })), { table: 'items' }]
    const feed = await follow(await connect(t, { vsn }), bindings)
    await insert()
    await until('the last row', () => feed.rows(cases.length).length === rows.length)
    const got = cases.map(([filter], position) => [filter, feed.rows(position).map((row) => row.key).join('')])
    assert.deepEqual(got, cases)
  })
}

test("the client's filter builder is understood", async (t) => {
  const filter = postgresChangesFilter().in('note', ['a,b', 'x']).not('n', 'eq', 5)
  const feed = await follow(await connect(t), [{ table: 'items', filter }, { table: 'items' }])
  await insert()
  await until('the last row', () => feed.rows(1).length === rows.length)
  assert.deepEqual(feed.rows(0).map((row) => row.key), ['c'])
})

test('an update is judged by its new row, a delete by its key', async (t) => {
  const [{ id }, { id: other }] = await sql(
    `insert into items (key, n) values ('x', 1), ('y', 1) returning id::int`,
  )
  const feed = await follow(await connect(t), [
    { event: 'UPDATE', table: 'items', filter: 'n=eq.2' },
    { event: 'DELETE', table: 'items', filter: `id=eq.${id}` },
    { table: 'items' },
  ])
  await sql('update items set n = 2 where id = $1', [id])
  await sql('update items set n = 3 where id = $1', [id])
  await sql('delete from items where id = $1', [other])
  await sql('delete from items where id = $1', [id])
  await until('four changes', () => feed.received.filter(({ position }) => position === 2).length === 4)
  assert.deepEqual(feed.rows(0).map((row) => row.n), [2])
  assert.deepEqual(feed.received.filter(({ position }) => position === 1).map((c) => c.old), [{ id }])
})
