// Presence: sync, join and leave events, the state, with both serializer versions in one topic.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connect, VERSIONS } from './client.mjs'
import { healthy, until } from './stack.mjs'

await healthy()

let n_rooms = 0
const room = () => `presence-${process.pid}-${n_rooms++}`

/** Joins a room under a key and writes down what happens there. */
async function enter({ supabase }, name, key) {
  const channel = supabase.channel(name, { config: { presence: { key } } })
  const guest = { channel, key, events: [], n_syncs: 0 }
  channel.on('presence', { event: 'sync' }, () => guest.n_syncs++)
  channel.on('presence', { event: 'join' }, ({ key, newPresences }) => guest.events.push(['join', key, bare(newPresences)]))
  channel.on('presence', { event: 'leave' }, ({ key, leftPresences }) => guest.events.push(['leave', key, bare(leftPresences)]))
  channel.subscribe((state, error) => {
    guest.state = state
    guest.error = error
  })
  await until(`${key} is joined and told who is there`, () => guest.n_syncs > 0)
  assert.equal(guest.state, 'SUBSCRIBED')
  return guest
}

/** Presences without the names the server gives them, each of which must have one. */
const bare = (presences) =>
  presences.map(({ presence_ref, ...rest }) => {
    assert.match(presence_ref, /^[\w-]{16}$/)
    return rest
  })

const everybody = ({ channel }) =>
  Object.fromEntries(Object.entries(channel.presenceState()).map(([key, presences]) => [key, bare(presences)]))

for (const [mine, theirs] of [VERSIONS, [...VERSIONS].reverse()]) {
  test(`${mine} and ${theirs}: guests see each other come, change and go`, async (t) => {
    const name = room()
    const ann = await enter(await connect(t, { vsn: mine }), name, 'ann')
    const bob = await enter(await connect(t, { vsn: theirs }), name, 'bob')
    assert.deepEqual(everybody(bob), {})

    assert.equal(await ann.channel.track({ mood: 'curious' }), 'ok')
    for (const guest of [ann, bob]) {
      await until(`${guest.key} sees ann`, () => guest.events.length === 1)
      assert.deepEqual(guest.events, [['join', 'ann', [{ mood: 'curious' }]]])
    }
    assert.equal(await bob.channel.track({ mood: 'calm' }), 'ok')
    await until('ann sees bob', () => ann.events.length === 2)
    assert.deepEqual(everybody(ann), { ann: [{ mood: 'curious' }], bob: [{ mood: 'calm' }] })

    // Who comes later is told at once.
    const eve = await enter(await connect(t, { vsn: mine }), name, 'eve')
    assert.deepEqual(everybody(eve), everybody(ann))

    assert.equal(await bob.channel.track({ mood: 'glad' }), 'ok')
    await until('the change', () => eve.channel.presenceState().bob?.[0]?.mood === 'glad')
    assert.deepEqual(everybody(eve), { ann: [{ mood: 'curious' }], bob: [{ mood: 'glad' }] })

    assert.equal(await ann.channel.untrack(), 'ok')
    await until('ann is gone', () => !('ann' in eve.channel.presenceState()))
    assert.deepEqual(eve.events.at(-1), ['leave', 'ann', [{ mood: 'curious' }]])
    await bob.channel.unsubscribe()
    await until('bob is gone', () => !('bob' in eve.channel.presenceState()))
    assert.deepEqual(everybody(eve), {})
  })
}

test('two connections under one key are two presences, and a lost one leaves alone', async (t) => {
  const name = room()
  const phone = await connect(t)
  const [desk, pocket] = [await enter(await connect(t), name, 'ann'), await enter(phone, name, 'ann')]
  await desk.channel.track({ on: 'desk' })
  await until('the first', () => everybody(desk).ann?.length === 1)
  await pocket.channel.track({ on: 'phone' })
  await until('both', () => everybody(desk).ann?.length === 2)
  assert.deepEqual(everybody(desk).ann, [{ on: 'desk' }, { on: 'phone' }])
  await phone.supabase.realtime.disconnect()
  await until('one is left', () => everybody(desk).ann?.length === 1)
  assert.deepEqual(everybody(desk).ann, [{ on: 'desk' }])
})

test('without a key every guest has one of its own', async (t) => {
  const name = room()
  const [one, other] = [await enter(await connect(t), name, ''), await enter(await connect(t), name, '')]
  await one.channel.track({ n: 1 })
  await other.channel.track({ n: 2 })
  await until('both', () => Object.keys(one.channel.presenceState()).length === 2)
  const numbers = Object.values(everybody(one)).flatMap((presences) => presences.map(({ n }) => n))
  assert.deepEqual(numbers.sort(), [1, 2])
})
