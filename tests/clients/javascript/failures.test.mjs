// What the stream survives: restarts, a killed backend, a client that does not read.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { connect as open } from 'node:net'
import { test } from 'node:test'

import { connect, follow, VERSIONS } from './client.mjs'
import { anon, control, database, healthy, isHealthy, port, sql, until } from './stack.mjs'

await healthy()

const numbers = (feed) => feed.rows().map((row) => row.n)
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i)
const insert = (first, last) =>
  sql(`insert into items (key, n) select 'failures', i from generate_series($1::int, $2::int) i`, [first, last])

for (const vsn of VERSIONS) {
  test(`${vsn}: a restarted server is found again`, async (t) => {
    const feed = await follow(await connect(t, { vsn }), [{ table: 'items' }])
    await insert(1, 3)
    await until('the rows before', () => feed.received.length === 3)
    await control('walcast', 'restart')
    await healthy()
    await until('the subscription is live again', () => feed.n_live() >= 2)
    await insert(4, 6)
    await until('the rows after', () => feed.received.length >= 6)
    assert.deepEqual(numbers(feed), range(1, 6))
  })
}

test('a killed server is found again', async (t) => {
  const feed = await follow(await connect(t), [{ table: 'items' }])
  await insert(1, 3)
  await until('the rows before', () => feed.received.length === 3)
  await control('walcast', 'kill')
  await control('walcast', 'start')
  await healthy()
  await until('the subscription is live again', () => feed.n_live() >= 2)
  await insert(4, 6)
  await until('the rows after', () => numbers(feed).includes(6))
  assert.deepEqual(numbers(feed).slice(-3), range(4, 6))
})

test('a terminated walsender loses nothing and repeats nothing', async (t) => {
  const feed = await follow(await connect(t), [{ table: 'items' }])
  for (let round = 0; round < 3; round++) {
    await insert(round * 100 + 1, round * 100 + 50)
    const killed = await sql(
      `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'client_tests' and active`,
    )
    assert.equal(killed.length, 1)
    await insert(round * 100 + 51, round * 100 + 100)
    await until(`round ${round}`, () => feed.received.length >= (round + 1) * 100)
    await healthy()
  }
  assert.deepEqual(numbers(feed), range(1, 300))
})

test('a restarted PostgreSQL loses nothing and repeats nothing', async (t) => {
  const feed = await follow(await connect(t), [{ table: 'items' }])
  await insert(1, 100)
  await control('postgres', 'stop')
  await until('walcast says that the database is gone', async () => !(await isHealthy()))
  await control('postgres', 'start')
  await insert(101, 200)
  await until('all rows', () => feed.received.length >= 200, 60)
  await healthy()
  await insert(201, 210)
  await until('the rows after', () => feed.received.length >= 210)
  assert.deepEqual(numbers(feed), range(1, 210))
})

/** A text frame as a client sends it: masked. */
function frame(text) {
  const payload = Buffer.from(text)
  const mask = randomBytes(4)
  const head = Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 255])
  return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ mask[i % 4])])
}

test('a client that does not read is closed, and nobody else notices', async (t) => {
  const healthyFeed = await follow(await connect(t), [{ table: 'items', select: ['n'] }])

  const stalled = open(port, '127.0.0.1')
  t.after(() => stalled.destroy())
  stalled.on('error', () => {})
  let received = ''
  let isOver = false
  const listen = (part) => (received = (received + part.toString('latin1')).slice(-20_000))
  stalled.on('data', listen)
  stalled.on('close', () => (isOver = true))
  stalled.write(
    `GET /realtime/v1/websocket?apikey=${anon()}&vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n` +
      `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
  )
  await until('the handshake', () => received.includes('101 Switching Protocols'))
  const config = { postgres_changes: [{ event: '*', schema: 'public', table: 'items' }] }
  stalled.write(frame(JSON.stringify(['1', '1', 'realtime:stalled', 'phx_join', { config }])))
  await until('the subscription', () => received.includes('Subscribed to PostgreSQL'))
  stalled.pause()

  // Much more than the buffers of both kernels' sockets and any sensible queue hold.
  const client = await database()
  let n = 0
  for (let batch = 0; batch < 40; batch++) {
    await client.query(
      `insert into items (key, n, note) select 'stalled', i, repeat('x', 20000) from generate_series($1::int, $2::int) i`,
      [n + 1, n + 100],
    )
    n += 100
    await until(`batch ${batch}`, () => healthyFeed.received.length >= n)
  }
  await client.end()
  assert.deepEqual(numbers(healthyFeed), range(1, n))

  stalled.resume()
  await until('the stalled connection is over', () => isOver)
  await insert(n + 1, n + 1)
  await until('the next row', () => healthyFeed.received.length === n + 1)
})

test('the slot is not held back by anything that happened here', async () => {
  await until('the slot has caught up', async () => {
    const [{ position }] = await sql('select pg_current_wal_lsn() as position')
    await insert(1, 1)
    const [slot] = await sql(
      `select confirmed_flush_lsn >= $1 as caught_up from pg_replication_slots where slot_name = 'client_tests'`,
      [position],
    )
    return slot.caught_up
  })
})
