// What the guides tell to write works: each JavaScript snippet is run as it stands.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { connect } from './client.mjs'
import { anon, healthy, until, url } from './stack.mjs'

await healthy()

const AsyncFunction = (async () => {}).constructor

/** The guides, with what each of their snippets prints at last. */
const GUIDES = {
  'broadcast.md': [[1], [2]],
  'presence.md': [[['alice']]],
}

for (const [name, prints] of Object.entries(GUIDES)) {
  const text = readFileSync(new URL(`../../../docs/guides/${name}`, import.meta.url), 'utf8')
  const snippets = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, snippet]) => snippet)

  test(`${name}: every snippet is known here`, () => assert.equal(snippets.length, prints.length))

  snippets.forEach((snippet, position) => {
    test(`${name}: snippet ${position + 1}`, async (t) => {
      const { supabase } = await connect(t)
      let printed
      const console = { log: (...values) => (printed = values) }
      const run = new AsyncFunction('supabase', 'console', 'url', 'key', snippet)
      await run(supabase, console, url, anon())
      await until('it printed', () => {
        try {
          assert.deepEqual(printed, prints[position])
          return true
        } catch {
          return false
        }
      })
    })
  })
}
