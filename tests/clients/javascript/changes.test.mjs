// Insert, update, delete, column selection and order, with both serializer versions.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connect, follow, join, VERSIONS } from './client.mjs'
import { database, healthy, sql, until } from './stack.mjs'

await healthy()

for (const vsn of VERSIONS) {
  test(`${vsn}: an inserted, updated and deleted row arrives`, async (t) => {
    const feed = await follow(await connect(t, { vsn }), [{ table: 'items' }])
    const [{ id }] = await sql(
      `insert into items (key, n, label, done, price) values ('whole', 7, 'a "quoted" ümlaut', true, 1.50) returning id::int`,
    )
    await sql('update items set n = 8 where id = $1', [id])
    await sql('delete from items where id = $1', [id])
    await until('three changes', () => feed.received.length === 3)

    const [inserted, updated, deleted] = feed.received
    const row = { id, key: 'whole', n: 7, label: 'a "quoted" ümlaut', done: true, price: 1.5, note: null }
    assert.equal(inserted.eventType, 'INSERT')
    assert.equal(inserted.schema, 'public')
    assert.equal(inserted.table, 'items')
    assert.equal(inserted.errors, null)
    assert.match(inserted.commit_timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.deepEqual(inserted.new, row)
    assert.deepEqual(inserted.old, {})
    assert.equal(updated.eventType, 'UPDATE')
    assert.deepEqual(updated.new, { ...row, n: 8 })
    assert.deepEqual(updated.old, { id })
    assert.equal(deleted.eventType, 'DELETE')
    assert.deepEqual(deleted.new, {})
    assert.deepEqual(deleted.old, { id })
  })

  test(`${vsn}: each binding gets the events it asked for`, async (t) => {
    const bindings = ['INSERT', 'UPDATE', 'DELETE', '*'].map((event) => ({ event, table: 'items' }))
    const feed = await follow(await connect(t, { vsn }), bindings)
    const [{ id }] = await sql(`insert into items (key) values ('events') returning id`)
    await sql('update items set n = 1 where id = $1', [id])
    await sql('delete from items where id = $1', [id])
    const types = (position) => feed.received.filter((change) => change.position === position).map((c) => c.eventType)
    await until('the delete', () => types(3).length === 3)
    assert.deepEqual(types(0), ['INSERT'])
    assert.deepEqual(types(1), ['UPDATE'])
    assert.deepEqual(types(2), ['DELETE'])
    assert.deepEqual(types(3), ['INSERT', 'UPDATE', 'DELETE'])
  })

  test(`${vsn}: select delivers those columns and the key`, async (t) => {
    const feed = await follow(await connect(t, { vsn }), [{ table: 'items', select: ['label', 'n'] }])
    const [{ id }] = await sql(`insert into items (key, n, label) values ('select', 3, 'seen') returning id::int`)
    await until('the row', () => feed.received.length === 1)
    assert.deepEqual(feed.rows(), [{ id, n: 3, label: 'seen' }])
  })

  test(`${vsn}: a large transaction arrives whole and in order`, async (t) => {
    const feed = await follow(await connect(t, { vsn }), [{ table: 'items' }])
    await sql(`insert into items (key, n) select 'bulk', i from generate_series(1, 1000) i`)
    await until('a thousand rows', () => feed.received.length >= 1000)
    assert.deepEqual(feed.rows().map((row) => row.n), Array.from({ length: 1000 }, (_, i) => i + 1))
  })
}

test('values arrive as what their column is', async (t) => {
  const feed = await follow(await connect(t), [{ table: 'shapes' }])
  await sql(String.raw`
    insert into shapes values (1, 9007199254740991, 1.50, 1e20, '{"a": [1, null]}', '{"b": "text"}',
      '{"a,b",NULL}', '{{1,2},{3,4}}', '2024-01-02 03:04:05.6', '2024-01-02 03:04:05+02',
      'so "so"', '(1,"x ""y""")', '[1,5)', '\x00ff')`)
  await sql('insert into shapes values (2)')
  await until('both rows', () => feed.received.length === 2)
  const [full, empty] = feed.rows()
  assert.deepEqual(full, {
    id: 1,
    big: 9007199254740991,
    price: 1.5,
    ratio: 1e20,
    doc: { a: [1, null] },
    plain: { b: 'text' },
    tags: ['a,b', null],
    grid: [[1, 2], [3, 4]],
    seen: '2024-01-02T03:04:05.6',
    at: '2024-01-02T01:04:05+00:00',
    mood: 'so "so"',
    pair: { a: 1, b: 'x "y"' },
    span: '[1,5)',
    bytes: '00ff',
  })
  assert.deepEqual(empty, Object.fromEntries(Object.keys(full).map((name) => [name, name === 'id' ? 2 : null])))
})

test('a rolled back transaction and a truncate are never seen', async (t) => {
  const feed = await follow(await connect(t), [{ table: 'items' }])
  const client = await database()
  await client.query(`begin; insert into items (key) values ('rolled back'); rollback`)
  await client.query('truncate items')
  await client.query(`insert into items (key) values ('kept')`)
  await client.end()
  await until('the kept row', () => feed.received.length >= 1)
  assert.deepEqual(feed.rows().map((row) => row.key), ['kept'])
})

test('two channels of one client each get their own changes', async (t) => {
  const connection = await connect(t)
  const first = await follow(connection, [{ table: 'items', filter: 'key=eq.first' }])
  const second = await follow(connection, [{ table: 'items', filter: 'key=eq.second' }])
  await sql(`insert into items (key) values ('first'), ('second'), ('first'), ('second')`)
  await until('both have two', () => first.received.length >= 2 && second.received.length >= 2)
  assert.deepEqual(first.rows().map((row) => row.key), ['first', 'first'])
  assert.deepEqual(second.rows().map((row) => row.key), ['second', 'second'])
})

test('a channel that was left receives nothing more', async (t) => {
  const connection = await connect(t)
  const left = await follow(connection, [{ table: 'items' }])
  const other = await follow(connection, [{ table: 'items' }])
  await connection.supabase.removeChannel(left.channel)
  assert.equal(left.states.at(-1), 'CLOSED')
  await sql(`insert into items (key) values ('after leaving')`)
  await until('the other channel has the row', () => other.received.length === 1)
  assert.deepEqual(left.received, [])
})

test('with wait, SUBSCRIBED means live', async (t) => {
  const feed = join(await connect(t), [{ table: 'items' }], { postgres_changes_options: { wait: true } })
  await until('SUBSCRIBED', () => feed.states.includes('SUBSCRIBED'))
  await sql(`insert into items (key) values ('right after')`)
  await until('the row', () => feed.received.length === 1)
  assert.equal(feed.rows()[0].key, 'right after')
})
