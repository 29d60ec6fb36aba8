// Broadcasts that SQL sends.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connect, VERSIONS } from './client.mjs'
import { control, database, healthy, sql, until, user } from './stack.mjs'

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

/** Joins a private channel with the token of a user; its states and what it hears. */
function enter({ supabase }, topic, broadcast = {}) {
  const heard = []
  const states = []
  const channel = supabase.channel(topic, { config: { private: true, broadcast } })
  channel.on('broadcast', { event: '*' }, (message) => heard.push(message))
  channel.subscribe((state, error) => states.push(error ? `${state}: ${error.message}` : state))
  return { channel, heard, states }
}

for (const vsn of VERSIONS) {
  test(`${vsn}: changes of rows reach the private channels of those who may read them`, async (t) => {
    const [alice, bob] = [user(), user()]
    const table = `deeds_${process.pid}_${n_topics++}`
    await sql(`
      create table public.${table} (id int primary key, owner uuid, body text);
      create function public.tell_${table}() returns trigger language plpgsql security definer set search_path = '' as $$
      begin
        perform realtime.broadcast_changes(
          'deeds:' || coalesce(new.owner, old.owner)::text, tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
        return null;
      end $$;
      create trigger tell after insert or update or delete on public.${table}
        for each row execute function public.tell_${table}();
      create policy "own deeds of ${table}" on realtime.messages for select to authenticated
        using ((select realtime.topic()) = 'deeds:' || (select auth.uid())::text and extension = 'broadcast');`)
    t.after(() =>
      sql(`drop policy "own deeds of ${table}" on realtime.messages; drop table public.${table}; drop function public.tell_${table}()`),
    )
    const topic = `deeds:${alice.id}`
    const reader = enter(await connect(t, { vsn, token: alice.token }), topic)
    await until('Alice is in', () => reader.states.includes('SUBSCRIBED'))
    const stranger = enter(await connect(t, { vsn, token: bob.token }), topic)
    await until('Bob is refused', () => stranger.states.some((state) => state.includes('Unauthorized')))
    const outside = await listen(await connect(t, { vsn }), topic)

    await sql(`insert into public.${table} values (1, '${alice.id}', 'a')`)
    await sql(`update public.${table} set body = 'b'`)
    await sql(`delete from public.${table}`)
    await until('all three', () => reader.heard.length === 3)
    const row = (body) => ({ id: 1, owner: alice.id, body })
    const change = (operation, record, old_record, meta) => ({
      type: 'broadcast',
      event: operation,
      payload: { id: meta.id, operation, schema: 'public', table, record, old_record },
      meta,
    })
    const metas = reader.heard.map(({ meta }) => meta)
    assert.deepEqual(reader.heard, [
      change('INSERT', row('a'), null, metas[0]),
      change('UPDATE', row('b'), row('a'), metas[1]),
      change('DELETE', null, row('b'), metas[2]),
    ])
    assert.deepEqual([stranger.heard, outside.heard], [[], []])

    // Whoever comes later asks for them.
    const since = Date.now() - 600_000
    await reader.channel.unsubscribe()
    const later = enter(await connect(t, { vsn, token: alice.token }), topic, { replay: { since, limit: 2 } })
    await until('the last two', () => later.heard.length === 2)
    const replayed = (meta) => ({ ...meta, replayed: true })
    assert.deepEqual(later.heard, [
      change('UPDATE', row('b'), row('a'), replayed(metas[1])),
      change('DELETE', null, row('b'), replayed(metas[2])),
    ].map((message, n) => ({ ...message, payload: { ...message.payload, id: metas[n + 1].id } })))
  })
}
