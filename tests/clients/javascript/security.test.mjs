// Row security: two users must never see each other's rows.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connect, follow, VERSIONS } from './client.mjs'
import { anon, healthy, service, sql, until, user } from './stack.mjs'

await healthy()

const add = async (owner, body) =>
  (await sql('insert into notes (owner, body) values ($1, $2) returning id::int', [owner.id, body]))[0].id

const bodies = (feed) => feed.rows().map((row) => row.body)

for (const vsn of VERSIONS) {
  test(`${vsn}: each user sees their own rows only`, async (t) => {
    const [ann, bob] = [user(), user()]
    const notes = [{ table: 'notes' }]
    const seenByAnn = await follow(await connect(t, { vsn, token: ann.token }), notes)
    const seenByBob = await follow(await connect(t, { vsn, token: bob.token }), notes)
    const seenByAnon = await follow(await connect(t, { vsn, token: anon() }), [...notes, { table: 'items' }])
    const seenByService = await follow(await connect(t, { vsn, token: service() }), notes)

    const a = await add(ann, 'of Ann')
    const b = await add(bob, 'of Bob')
    await sql(`update notes set body = body || ', changed' where id in ($1, $2)`, [a, b])
    await sql('delete from notes where id in ($1, $2)', [a, b])
    await sql(`insert into items (key) values ('the end')`)
    await add(ann, 'last of Ann')
    await add(bob, 'last of Bob')

    await until('everybody has the last row that is theirs', () =>
      bodies(seenByAnn).includes('last of Ann') &&
      bodies(seenByBob).includes('last of Bob') &&
      bodies(seenByService).includes('last of Bob') &&
      seenByAnon.rows(1).length === 1)

    const story = (feed) => feed.received.map((change) => [change.eventType, change.new.body ?? change.old.body])
    const own = (name) => [
      ['INSERT', `of ${name}`],
      ['UPDATE', `of ${name}, changed`],
      ['DELETE', `of ${name}, changed`],
      ['INSERT', `last of ${name}`],
    ]
    assert.deepEqual(story(seenByAnn), own('Ann'))
    assert.deepEqual(story(seenByBob), own('Bob'))
    assert.deepEqual(seenByAnon.rows(0), [])
    assert.equal(seenByService.received.length, 8)
  })
}

test('a row that changes hands shows its old image to nobody new', async (t) => {
  const [ann, bob] = [user(), user()]
  const seenByAnn = await follow(await connect(t, { token: ann.token }), [{ table: 'notes' }])
  const seenByBob = await follow(await connect(t, { token: bob.token }), [{ table: 'notes' }])
  const id = await add(ann, 'private')
  await sql(`update notes set owner = $2, body = 'handed over' where id = $1`, [id, bob.id])
  await add(ann, 'the end')
  await until('both have their last row', () => bodies(seenByAnn).includes('the end') && seenByBob.received.length >= 1)
  assert.deepEqual(bodies(seenByAnn), ['private', 'the end'])
  assert.deepEqual(seenByBob.received.map((change) => [change.new.body, change.old]), [['handed over', { id }]])
})

test('a row is judged as it was committed, whatever happens to it later', async (t) => {
  const ann = user()
  const feed = await follow(await connect(t, { token: ann.token }), [{ table: 'notes' }])
  await sql(
    `begin;
     insert into notes (owner, body) values ('${ann.id}', 'short-lived');
     delete from notes where owner = '${ann.id}';
     commit`,
  )
  await until('both changes', () => feed.received.length === 2)
  assert.deepEqual(feed.received.map((change) => change.eventType), ['INSERT', 'DELETE'])
})

test('a policy that reads another table is decided, too', async (t) => {
  const [ann, bob] = [user(), user()]
  const seenByAnn = await follow(await connect(t, { token: ann.token }), [{ table: 'documents' }])
  const seenByBob = await follow(await connect(t, { token: bob.token }), [{ table: 'documents' }])
  // The readers are committed with the document or before it.
  const publish = (title, readers) =>
    sql(
      `with document as (insert into documents (title) values ($1) returning id)
       insert into readers select id, unnest($2::uuid[]) from document`,
      [title, readers.map(({ id }) => id)],
    )
  await publish('for Ann', [ann])
  await publish('for Bob', [bob])
  await publish('for nobody', [])
  await publish('for both', [ann, bob])
  const titles = (feed) => feed.rows().map((row) => row.title)
  await until('the last document', () => titles(seenByAnn).includes('for both') && titles(seenByBob).includes('for both'))
  assert.deepEqual(titles(seenByAnn), ['for Ann', 'for both'])
  assert.deepEqual(titles(seenByBob), ['for Bob', 'for both'])
})

for (const vsn of VERSIONS) {
  test(`${vsn}: another token changes what is seen`, async (t) => {
    const [ann, bob] = [user(), user()]
    const connection = await connect(t, { vsn, token: ann.token })
    const feed = await follow(connection, [{ table: 'notes' }])
    await add(ann, 'Ann, before')
    await add(bob, 'Bob, before')
    await until('the row of Ann', () => feed.received.length === 1)

    await connection.use(bob.token)
    await until('the subscription is live again', () => feed.n_live() === 2)
    await add(ann, 'Ann, after')
    await add(bob, 'Bob, after')
    await until('the row of Bob', () => feed.received.length === 2)
    assert.deepEqual(bodies(feed), ['Ann, before', 'Bob, after'])
  })
}
