// The stock supabase-js, and a channel whose messages are written down.
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

import { anon, until, url } from './stack.mjs'

export const SUBSCRIBED = 'Subscribed to PostgreSQL'
export const VERSIONS = ['1.0.0', '2.0.0']

/** A client that is closed when the test ends. `use(token)` is what a token refresh does. */
export async function connect(t, { token = anon(), vsn = '2.0.0' } = {}) {
  let current = token
  const supabase = createClient(url, anon(), {
    accessToken: async () => current,
    realtime: {
      vsn,
      reconnectAfterMs: () => 100,
      // Node has a WebSocket of its own from version 22 on.
      ...(globalThis.WebSocket ? {} : { transport: ws }),
    },
  })
  t.after(async () => {
    await supabase.removeAllChannels()
    await supabase.realtime.disconnect()
  })
  await supabase.realtime.setAuth()
  const use = async (next) => {
    current = next
    await supabase.realtime.setAuth()
  }
  return { supabase, use }
}

let n_topics = 0

/** Joins a channel with bindings `{ event?, table, filter?, select? }` and writes everything down. */
export function join({ supabase }, bindings, config = {}) {
  const feed = { received: [], system: [], states: [], errors: [] }
  const channel = supabase.channel(`feed-${process.pid}-${n_topics++}`, { config })
  bindings.forEach((binding, position) => {
    const { event = '*', schema = 'public', ...rest } = binding
    channel.on('postgres_changes', { event, schema, ...rest }, (change) => {
      feed.received.push({ position, ...change })
    })
  })
  channel.on('system', {}, (message) => feed.system.push(message))
  channel.subscribe((state, error) => {
    feed.states.push(state)
    if (error) feed.errors.push(error.message)
  })
  return Object.assign(feed, {
    channel,
    n_live: () => feed.system.filter(({ message }) => message === SUBSCRIBED).length,
    rows: (position = 0) => feed.received.filter((change) => change.position === position).map((change) => change.new),
  })
}

/** Joins and waits until the bindings are live. */
export async function follow(connection, bindings, config) {
  const feed = join(connection, bindings, config)
  await until('the subscription is live', () => {
    const refused = feed.system.find(({ status }) => status === 'error')
    if (refused) throw new Error(refused.message)
    return feed.n_live() > 0
  })
  return feed
}
