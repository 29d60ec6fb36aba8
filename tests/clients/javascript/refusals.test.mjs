// What is refused, and that a refusal harms nobody else.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import ws from 'ws'

import { connect, follow, join, VERSIONS } from './client.mjs'
import { anon, healthy, port, sql, token, until } from './stack.mjs'

await healthy()

const REFUSED = [
  [{ table: 'items', filter: 'nothing=eq.1' }, /invalid column for filter nothing/],
  [{ table: 'items', filter: 'n=eq.abc' }, /invalid input syntax for type integer: "abc"/],
  [{ table: 'items', filter: 'n=about.5' }, /Error parsing `filter` params: \["about", "5"\]/],
  [{ table: 'items', filter: 'n=eq.1,,n=eq.2' }, /must not contain empty segments/],
  [{ table: 'items', filter: 'n=in.5' }, /`in` filter value must be wrapped by parentheses/],
  [{ table: 'items', filter: 'n=like.5' }, /operator like requires a text-compatible column type, got integer/],
  [{ table: 'items', filter: 'label=is.true' }, /is true filter requires a boolean column, got text/],
  [{ table: 'items', select: ['nothing'] }, /invalid column for select nothing/],
  [
    { table: 'unpublished' },
    /Please check Realtime is enabled for the given connect parameters: \[event: \*, schema: public, table: unpublished, filters: \[\], select: nil\]/,
  ],
  [{ table: 'no_such_table' }, /Please check Realtime is enabled for the given connect parameters/],
]

for (const vsn of VERSIONS) {
  test(`${vsn}: a wrong subscription is told why, and others go on`, async (t) => {
    const connection = await connect(t, { vsn })
    const good = await follow(connection, [{ table: 'items' }])
    for (const [binding, expected] of REFUSED) {
      const feed = join(connection, [binding])
      const refusal = await until(JSON.stringify(binding), () => feed.system.find(({ status }) => status === 'error'))
      assert.equal(refusal.extension, 'postgres_changes')
      assert.match(refusal.message, expected)
      assert.deepEqual(feed.states, ['SUBSCRIBED'])
    }
    await sql(`insert into items (key) values ('still here')`)
    await until('the row', () => good.received.length === 1)
  })
}

test('with wait, a wrong subscription fails the join', async (t) => {
  const feed = join(await connect(t), [{ table: 'items', filter: 'nothing=eq.1' }], {
    postgres_changes_options: { wait: true },
  })
  await until('the refusal', () => feed.states.includes('CHANNEL_ERROR'))
  assert.match(feed.errors[0], /RealtimeDisabledForConfiguration: .*invalid column for filter nothing/s)
})

/** What the server answers to a WebSocket handshake. */
const handshake = (apikey) =>
  new Promise((done, fail) => {
    const query = apikey === undefined ? '' : `apikey=${apikey}&`
    const socket = new ws(`ws://127.0.0.1:${port}/realtime/v1/websocket?${query}vsn=2.0.0`)
    socket.on('open', () => {
      socket.close()
      done({ status: 101 })
    })
    socket.on('unexpected-response', (_, response) => {
      const connection = response.socket
      let body = ''
      response.on('data', (part) => (body += part))
      response.on('end', () => {
        // Whoever listens to this event has the connection to close.
        connection.destroy()
        done({ status: response.statusCode, error: JSON.parse(body).error })
      })
    })
    socket.on('error', fail)
  })

test('a bad key does not get a connection', async () => {
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${anon().split('.')[1]}.`
  assert.deepEqual(await handshake(anon()), { status: 101 })
  assert.deepEqual(await handshake(undefined), { status: 401, error: 'API key is missing' })
  assert.deepEqual(await handshake('nonsense'), { status: 401, error: 'The token provided is not a valid JWT' })
  assert.deepEqual(await handshake(token({ role: 'anon' }, { lifetime: -10 })), {
    status: 401,
    error: 'Token has expired',
  })
  assert.deepEqual(await handshake(token({ role: 'anon' }, { secret: 'another secret of 32 bytes, or more' })), {
    status: 401,
    error: 'Failed to validate JWT signature',
  })
  assert.deepEqual(await handshake(token({})), {
    status: 401,
    error: 'Fields `role` and `exp` are required in JWT',
  })
  assert.equal((await handshake(unsigned)).status, 401)
})

test('a token that expires closes its channel and no other', async (t) => {
  const lasting = await follow(await connect(t), [{ table: 'items' }])
  const brief = await follow(await connect(t, { token: token({ role: 'anon' }, { lifetime: 2 }) }), [{ table: 'items' }])
  await until('the channel is closed', () => brief.states.includes('CLOSED'))
  const told = brief.system.find(({ status }) => status === 'error')
  assert.match(told.message, /Token has expired/)
  await sql(`insert into items (key) values ('for the living')`)
  await until('the other has the row', () => lasting.received.length === 1)
  assert.deepEqual(brief.received, [])
})
