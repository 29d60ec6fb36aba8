// Clients of other ages and makes in one topic with the newest: supabase-js 2.39, and Phoenix' own client
// over a WebSocket and over long-polling.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { LongPoll, Presence, Socket } from 'phoenix'
import { createClient as createOldClient } from 'supabase-js-2.39'
import ws from 'ws'

import { connect, VERSIONS } from './client.mjs'
import { anon, healthy, sql, until, url } from './stack.mjs'

await healthy()

let n_topics = 0
const newTopic = () => `ages-${process.pid}-${n_topics++}`

/** supabase-js of January 2024, with its own WebSocket and serialiser. */
function connectOld(t) {
  const supabase = createOldClient(url, anon())
  t.after(async () => {
    await supabase.removeAllChannels()
    supabase.realtime.disconnect()
  })
  return { supabase }
}

/** Joins with everything on, and writes everything down. */
async function join({ supabase }, topic, config = {}) {
  const heard = []
  const channel = supabase.channel(topic, { config })
  channel.on('broadcast', { event: '*' }, ({ event, payload }) => heard.push([event, payload]))
  channel.on('presence', { event: 'sync' }, () => {})
  let state
  channel.subscribe((next) => (state = next))
  await until('the channel is joined', () => state === 'SUBSCRIBED')
  return { channel, heard }
}

/** Phoenix' client; its socket is closed when the test ends. */
function connectPhoenix(t, transport) {
  const socket = new Socket(`${url.replace(/^http/, 'ws')}/socket`, { transport, params: { apikey: anon() } })
  socket.connect()
  t.after(() => new Promise((resolve) => socket.disconnect(resolve)))
  return socket
}

/** Joins with it; what it hears, and who is there. */
async function joinPhoenix(socket, topic, config = {}) {
  const channel = socket.channel(`realtime:${topic}`, { config })
  const heard = []
  channel.on('broadcast', ({ event, payload }) => heard.push([event, payload]))
  const presence = new Presence(channel)
  await new Promise((resolve, reject) => {
    channel.join().receive('ok', resolve).receive('error', ({ reason }) => reject(new Error(reason)))
  })
  return { channel, heard, keys: () => presence.list((key) => key).sort() }
}

const say = (channel, event, payload) => channel.send({ type: 'broadcast', event, payload })

for (const vsn of VERSIONS) {
  test(`supabase-js 2.39 and the newest with ${vsn}: both hear and see each other`, async (t) => {
    const topic = newTopic()
    const config = (key) => ({ broadcast: { ack: true }, presence: { key } })
    const older = await join(connectOld(t), topic, config('older'))
    const newer = await join(await connect(t, { vsn }), topic, config('newer'))
    assert.equal(await say(older.channel, 'from old', { n: 1, text: 'ä"\u2028' }), 'ok')
    assert.equal(await say(newer.channel, 'from new', { n: 2, list: [null, 1.5] }), 'ok')
    await until('both', () => older.heard.length === 1 && newer.heard.length === 1)
    assert.deepEqual(newer.heard, [['from old', { n: 1, text: 'ä"\u2028' }]])
    assert.deepEqual(older.heard, [['from new', { n: 2, list: [null, 1.5] }]])

    await older.channel.track({ age: 2 })
    await newer.channel.track({ age: 1 })
    const keys = ({ channel }) => Object.keys(channel.presenceState()).sort().join()
    await until('both are seen', () => [older, newer].every((guest) => keys(guest) === 'newer,older'))
    await newer.channel.untrack()
    await until('one is gone', () => keys(older) === 'older')
  })
}

test('supabase-js 2.39: rows arrive as they do at the newest', async (t) => {
  const follow = async ({ supabase }) => {
    const changes = []
    const system = []
    const channel = supabase.channel(newTopic())
    channel.on('postgres_changes', { event: '*', schema: 'public', table: 'items' }, (change) => changes.push(change))
    channel.on('system', {}, ({ message }) => system.push(message))
    channel.subscribe()
    await until('the subscription is live', () => system.includes('Subscribed to PostgreSQL'))
    return changes
  }
  const older = await follow(connectOld(t))
  const newer = await follow(await connect(t))
  const [row] = await sql('insert into items (key, label) values ($1, $1) returning id', ['old'])
  const id = Number(row.id)
  await sql('update items set label = $2 where id = $1', [id, 'older'])
  await sql('delete from items where id = $1', [id])
  const own = (changes) => changes.filter((change) => (change.new.id ?? change.old.id) === id)
  await until('three changes', () => [older, newer].every((changes) => own(changes).length === 3))
  assert.deepEqual(own(older).map(({ eventType }) => eventType), ['INSERT', 'UPDATE', 'DELETE'])
  assert.equal(own(older)[1].new.label, 'older')
  assert.deepEqual(own(older), own(newer))
})

test('bytes reach the newest, and clients that know none hear the rest', async (t) => {
  const topic = newTopic()
  const older = await join(connectOld(t), topic)
  const newer = await join(await connect(t), topic)
  const sender = await join(await connect(t), topic)
  await say(sender.channel, 'bytes', new Uint8Array([0, 255]).buffer)
  await say(sender.channel, 'text', { n: 1 })
  await until('the text', () => [older, newer].every(({ heard }) => heard.some(([event]) => event === 'text')))
  assert.deepEqual(older.heard, [['text', { n: 1 }]])
  assert.deepEqual([...new Uint8Array(newer.heard[0][1])], [0, 255])
})

test('phoenix over a WebSocket: joins, speaks, and sees who is there', async (t) => {
  const topic = newTopic()
  const newer = await join(await connect(t), topic, { presence: { key: 'newer' } })
  await newer.channel.track({})
  const socket = connectPhoenix(t, globalThis.WebSocket ?? ws)
  const config = { broadcast: { ack: true }, presence: { enabled: true, key: 'phoenix' } }
  const { channel, keys } = await joinPhoenix(socket, topic, config)
  await until('the newer one is seen', () => keys().join() === 'newer')
  channel.push('presence', { type: 'presence', event: 'track', payload: {} })
  await until('both are seen', () => keys().join() === 'newer,phoenix')
  const reply = await new Promise((resolve) => {
    channel.push('broadcast', { type: 'broadcast', event: 'e', payload: { n: 1 } }).receive('ok', resolve)
  })
  assert.deepEqual(reply, {})
  await until('it is heard', () => newer.heard.length === 1)
  assert.deepEqual(newer.heard, [['e', { n: 1 }]])
  await new Promise((resolve) => channel.leave().receive('ok', resolve))
  await until('it has left', () => Object.keys(newer.channel.presenceState()).join() === 'newer')
})

test('phoenix by long-polling: joins, speaks, hears, and is told of a refusal', async (t) => {
  const topic = newTopic()
  const newer = await join(await connect(t), topic)
  const socket = connectPhoenix(t, LongPoll)
  const { channel, heard } = await joinPhoenix(socket, topic)
  channel.push('broadcast', { type: 'broadcast', event: 'polled', payload: { n: 1 } })
  await until('it is heard', () => newer.heard.length === 1)
  assert.deepEqual(newer.heard, [['polled', { n: 1 }]])
  for (let n = 0; n < 20; n++) say(newer.channel, 'count', { n })
  await until('all of them', () => heard.length === 20)
  assert.deepEqual(heard, [...Array(20).keys()].map((n) => ['count', { n }]))
  await assert.rejects(joinPhoenix(socket, ''), /You must provide a topic name/)
})
