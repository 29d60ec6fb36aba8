// What README and the guides tell to write works: each JavaScript snippet is run as it stands.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'

import { connect } from './client.mjs'
import { anon, healthy, sql, token, until, url } from './stack.mjs'

await healthy()

const AsyncFunction = (async () => {}).constructor
const ROOT = new URL('../../../', import.meta.url)

const user = randomUUID()

/**
 * The files with snippets. Each snippet has what it prints: a list of lists of values, or a function that
 * is content with it. `before` runs before it; `act` until it has printed that.
 */
const SNIPPETS = {
  'README.md': [
    {
      before: () =>
        sql(`create table if not exists public.messages (id serial primary key, body text);
             grant select on public.messages to anon, authenticated;
             do $$ begin alter publication supabase_realtime add table public.messages;
             exception when duplicate_object then null; end $$`),
      act: () => sql("insert into messages (body) values ('say hello'), ('say nothing')"),
      prints: ([[change]]) => change.new.body === 'say hello',
    },
    {
      act: ({ supabase }) => supabase.channel('room').httpSend('cursor', { x: 1 }),
      prints: ([[message]]) => message.event === 'cursor' && message.payload.x === 1,
    },
  ],
  'docs/guides/broadcast.md': [{ prints: [[1]] }, { prints: [[2]] }],
  'docs/guides/presence.md': [{ prints: [[['alice']]] }],
  'docs/guides/database-broadcast.md': [
    {
      act: () => sql(`select realtime.send('{"text": "hello"}', 'greeting', 'lobby', false)`),
      prints: ([[text, id]]) => text === 'hello' && id.length === 36,
    },
    {
      // It only says how a channel is made that has messages replayed.
      before: () =>
        sql(`drop policy if exists lobby on realtime.messages;
             create policy lobby on realtime.messages for select using (realtime.topic() = 'lobby');
             select realtime.send('{"text": "earlier"}', 'greeting', 'lobby')`),
      ending: `.on('broadcast', { event: 'greeting' }, ({ payload, meta }) => console.log(payload.text, meta.replayed))
        .subscribe()`,
      prints: (all) => all.some(([text, replayed]) => text === 'earlier' && replayed === true),
    },
  ],
  'docs/guides/private-channels.md': [
    {
      token: () => token({ role: 'authenticated', sub: user }),
      before: () =>
        sql(`drop policy if exists room on realtime.messages;
             create policy room on realtime.messages for all to authenticated
               using (realtime.topic() = 'room-1' and auth.uid() = '${user}')`),
      act: () => sql(`select realtime.send('{"text": "psst"}', 'whisper', 'room-1')`),
      prints: (all) =>
        all.some(([state]) => state === 'SUBSCRIBED') && all.some(([message]) => message.event === 'whisper'),
    },
  ],
}

const read = (file) =>
  [...readFileSync(new URL(file, ROOT), 'utf8').matchAll(/^```js\n(.*?)^```/gms)].map(([, snippet]) => snippet)

test('every file with a snippet is known here', () => {
  const guides = readdirSync(new URL('docs/guides', ROOT)).map((name) => `docs/guides/${name}`)
  const files = ['README.md', ...guides].filter((file) => read(file).length > 0)
  assert.deepEqual(files.sort(), Object.keys(SNIPPETS).sort())
})

for (const [file, expected] of Object.entries(SNIPPETS)) {
  const snippets = read(file)

  test(`${file}: every snippet is known here`, () => assert.equal(snippets.length, expected.length))

  snippets.forEach((snippet, position) => {
    test(`${file}: snippet ${position + 1}`, async (t) => {
      const { before, act, ending = '', prints, ...options } = expected[position] ?? {}
      await before?.()
      const connection = await connect(t, options.token ? { token: options.token() } : {})
      const { supabase } = connection
      const printed = []
      const console = { log: (...values) => printed.push(values) }
      // The module is there already, and so is the client that such a snippet would make.
      const body = snippet.trimEnd().replace(/^import .*$/gm, '') + ending
      const parameters = { console, url, key: anon(), KEY: anon(), createClient: () => supabase }
      if (!/const supabase =/.test(body)) parameters.supabase = supabase
      const run = new AsyncFunction(...Object.keys(parameters), body)
      await run(...Object.values(parameters))
      await until('it printed', async () => {
        await act?.(connection)
        if (printed.length === 0) return false
        if (typeof prints === 'function') return prints(printed)
        try {
          assert.deepEqual(printed.slice(-prints.length), prints)
          return true
        } catch {
          return false
        }
      })
    })
  })
}
