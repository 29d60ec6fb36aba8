// Broadcasts that SQL sends.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connect, VERSIONS } from './client.mjs'
import { control, database, healthy, sql, until } from './stack.mjs'

await healthy()

let n_topics = 0
const newTopic = () => `said: é/${process.pid}-${n_topics++}`

/** Joins a topic and writes down every broadcast. */
async function listen({ supabase }, topic) {
  const heard = []
  const system = []
  const channel = supabase.channel(topic, { config: { broadcast: { replication_ready: true } } })
  channel.on('broadcast', { event: '*' }, (message) => heard.push(message))
  channel.on('system', {}, ({ message }) => system.push(message))
  channel.subscribe()
  await until('messages arrive', () => system.includes('Replication connection established'))
  return { channel, heard }
}

const send = 'select realtime.send($1, $2, $3, false)'

for (const vsn of VERSIONS) {
  test(`${vsn}: what SQL sends arrives with its id`, async (t) => {
    const topic = newTopic()
    const { heard } = await listen(await connect(t, { vsn }), topic)
    await sql(send, [{ text: 'ä"', n: 1.5 }, 'greeting', topic])
    await sql(send, [{ id: 'mine' }, 'greeting', topic])
    await until('both', () => heard.length === 2)
    const stored = await sql('select id from realtime.messages where topic = $1 order by inserted_at', [topic])
    const [first, second] = stored.map(({ id }) => id)
    const message = (payload, id) => ({ type: 'broadcast', event: 'greeting', payload, meta: { id } })
    assert.deepEqual(heard, [message({ text: 'ä"', n: 1.5, id: first }, first), message({ id: 'mine' }, second)])
  })

  test(`${vsn}: a transaction arrives whole, in its order, or not at all`, async (t) => {
    const topic = newTopic()
    const { heard } = await listen(await connect(t, { vsn }), topic)
    const client = await database()
    t.after(() => client.end())
    for (const [end, event] of [['rollback', 'undone'], ['commit', 'done']]) {
      await client.query('begin')
      for (let n = 0; n < 50; n++) await client.query(send, [{ n }, event, topic])
      await client.query(end)
    }
    await until('all of them', () => heard.length === 50)
    assert.deepEqual(heard.map(({ event, payload }) => [event, payload.n]), [...Array(50).keys()].map((n) => ['done', n]))
  })
}

test('triggers send for their rows', async (t) => {
  const topic = newTopic()
  await sql(`
    create table public.said (id int primary key, body text);
    create function public.tell_said() returns trigger language plpgsql security definer set search_path = '' as $$
    begin
      perform realtime.send(jsonb_build_object('row', to_jsonb(new)), tg_op, tg_argv[0], false);
      return null;
    end $$;
    create trigger tell after insert or update on public.said for each row execute function public.tell_said('${topic}');
    grant insert, update, select on public.said to anon;`)
  t.after(() => sql('drop table public.said; drop function public.tell_said()'))
  const { heard } = await listen(await connect(t), topic)
  // Whoever changes a row needs no right to send.
  await sql(`begin; set local role anon; insert into public.said values (1, 'a'); update public.said set body = 'b'; commit`)
  await until('both', () => heard.length === 2)
  assert.deepEqual(heard.map(({ event, payload }) => [event, payload.row]), [
    ['INSERT', { id: 1, body: 'a' }],
    ['UPDATE', { id: 1, body: 'b' }],
  ])
})

test('bytes reach the new version', async (t) => {
  const topic = newTopic()
  const { heard } = await listen(await connect(t), topic)
  const { heard: old } = await listen(await connect(t, { vsn: '1.0.0' }), topic)
  await sql(`select realtime.send_binary('\\x00ff07', 'blob', $1, false)`, [topic])
  await sql(send, [{}, 'end', topic])
  await until('the end', () => heard.length === 2 && old.length === 1)
  assert.deepEqual(new Uint8Array(heard[0].payload), new Uint8Array([0, 255, 7]))
  assert.equal(old[0].event, 'end')
})

test('what SQL sends while PostgreSQL restarts arrives once, if it was committed', async (t) => {
  const topic = newTopic()
  const { heard } = await listen(await connect(t), topic)
  const committed = []
  let is_over = false
  const sending = (async () => {
    for (let n = 0; !is_over; n++) {
      // A commit that was not confirmed may have happened, and cannot be told apart.
      await sql(send, [{ n }, 'e', topic]).then(() => committed.push(n), () => {})
    }
  })()
  await until('some', () => heard.length > 5)
  await control('postgres', 'restart')
  const n_before = committed.length
  await until('some more', () => committed.length > n_before + 5, 60)
  is_over = true
  await sending
  const last = committed.at(-1)
  await until('the last one', () => heard.some(({ payload }) => payload.n === last), 60)
  const numbers = heard.map(({ payload }) => payload.n)
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), 'in order and once')
  assert.deepEqual(committed.filter((n) => !numbers.includes(n)), [], 'all that was committed')
})
