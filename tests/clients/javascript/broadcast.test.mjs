// Broadcasts between clients of both versions, and over HTTP.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connect, VERSIONS } from './client.mjs'
import { healthy, until, url } from './stack.mjs'

await healthy()

let n_topics = 0
const newTopic = () => `talk: é/${process.pid}-${n_topics++}`

/** Joins a topic and writes down every broadcast. */
async function listen({ supabase }, topic, broadcast = {}) {
  const heard = []
  const channel = supabase.channel(topic, { config: { broadcast } })
  channel.on('broadcast', { event: '*' }, (message) => heard.push(message))
  let state
  channel.subscribe((next) => (state = next))
  await until('the channel is joined', () => state === 'SUBSCRIBED')
  return { channel, heard }
}

const message = (event, payload) => ({ type: 'broadcast', event, payload })

for (const vsn of VERSIONS) {
  for (const other of VERSIONS) {
    test(`${vsn} to ${other}: a broadcast reaches the others`, async (t) => {
      const topic = newTopic()
      const sender = await listen(await connect(t, { vsn }), topic)
      const receiver = await listen(await connect(t, { vsn: other }), topic)
      const elsewhere = await listen(await connect(t, { vsn: other }), newTopic())
      assert.equal(await sender.channel.send(message('cursor', { x: 1, text: 'ä"' })), 'ok')
      for (let n = 0; n < 100; n++) await sender.channel.send(message('count', { n }))
      await until('all of them', () => receiver.heard.length === 101)
      assert.deepEqual(receiver.heard[0], message('cursor', { x: 1, text: 'ä"' }))
      assert.deepEqual(receiver.heard.slice(1).map(({ payload }) => payload.n), [...Array(100).keys()])
      assert.deepEqual(sender.heard, [])
      assert.deepEqual(elsewhere.heard, [])
    })
  }

  test(`${vsn}: self and ack`, async (t) => {
    const topic = newTopic()
    const { channel, heard } = await listen(await connect(t, { vsn }), topic, { self: true, ack: true })
    assert.equal(await channel.send(message('e', { n: 1 })), 'ok')
    // The copy comes before the reply.
    assert.deepEqual(heard, [message('e', { n: 1 })])
    // What is too large is refused, and the channel goes on.
    assert.equal(await channel.send(message('e', { text: 'x'.repeat(3_100_000) })), 'error')
    assert.equal(await channel.send(message('e', { n: 2 })), 'ok')
    assert.deepEqual(heard, [message('e', { n: 1 }), message('e', { n: 2 })])
  })

  test(`${vsn}: who has not joined sends over HTTP`, async (t) => {
    const topic = newTopic()
    const connection = await connect(t, { vsn })
    const { heard } = await listen(await connect(t, { vsn }), topic)
    const outside = connection.supabase.channel(topic)
    assert.deepEqual(await outside.httpSend('e', { n: 1 }), { success: true })
    assert.equal(await outside.send(message('e', { n: 2 })), 'ok')
    await until('both', () => heard.length === 2)
    assert.deepEqual(heard.map(({ type, event, payload }) => ({ type, event, payload })), [
      message('e', { n: 1 }),
      message('e', { n: 2 }),
    ])
  })
}

test('bytes reach the new version, and the old one hears of nothing', async (t) => {
  const topic = newTopic()
  const sender = await listen(await connect(t), topic, { ack: true })
  const receiver = await listen(await connect(t), topic)
  const old = await listen(await connect(t, { vsn: '1.0.0' }), topic)
  const bytes = new Uint8Array([0, 255, 7]).buffer
  assert.equal(await sender.channel.send(message('blob', bytes)), 'ok')
  assert.deepEqual(await sender.channel.httpSend('blob', bytes), { success: true })
  assert.equal(await sender.channel.send(message('end', {})), 'ok')
  await until('the last one', () => receiver.heard.length === 3 && old.heard.length === 1)
  for (const { event, payload } of receiver.heard.slice(0, 2)) {
    assert.equal(event, 'blob')
    assert.deepEqual([...new Uint8Array(payload)], [0, 255, 7])
  }
  assert.equal(old.heard[0].event, 'end')
})

test('who has left hears nothing more, and hears again after another join', async (t) => {
  const topic = newTopic()
  const sender = await listen(await connect(t), topic, { ack: true })
  const connection = await connect(t)
  const left = await listen(connection, topic)
  const witness = await listen(await connect(t), topic)
  await connection.supabase.removeChannel(left.channel)
  await sender.channel.send(message('e', { n: 1 }))
  await until('the witness has it', () => witness.heard.length === 1)
  const back = await listen(connection, topic)
  await sender.channel.send(message('e', { n: 2 }))
  await until('both have it', () => witness.heard.length === 2 && back.heard.length === 1)
  assert.deepEqual([left.heard, back.heard], [[], [message('e', { n: 2 })]])
})

test('over HTTP the reason of a refusal is told', async (t) => {
  const { supabase } = await connect(t)
  const topic = newTopic()
  const isPrivate = supabase.channel(topic, { config: { private: true } })
  await assert.rejects(isPrivate.httpSend('e', {}), { message: 'Unauthorized' })
  const isPublic = supabase.channel(newTopic())
  await assert.rejects(isPublic.httpSend('e', { text: 'x'.repeat(8_100_000) }))
  const answer = await fetch(`${url}/realtime/v1/api/broadcast`, { method: 'POST', body: '{}' })
  assert.deepEqual([answer.status, await answer.json()], [401, { message: 'Unauthorized' }])
})
