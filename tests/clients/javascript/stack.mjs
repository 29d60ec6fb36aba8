// What runs on this machine for the tests: PostgreSQL and walcast, tokens, waiting.
import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import pg from 'pg'

const { PG_PORT, PORT, JWT_SECRET } = process.env
export const url = `http://127.0.0.1:${PORT}`
export const port = Number(PORT)

/** A connection as superuser. */
export async function database() {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: Number(PG_PORT),
    user: 'postgres',
    password: 'postgres',
    database: 'postgres',
  })
  // A restart of PostgreSQL is part of the tests; the next query says so anyway.
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Runs one statement, or several without values, on a connection of its own. */
export async function sql(text, values) {
  const client = await database()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

/** Waits until a condition holds; its last answer is returned. */
export async function until(what, condition, seconds = 20) {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const answer = await condition()
    if (answer) return answer
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s in vain: ${what}`)
    await new Promise((done) => setTimeout(done, 20))
  }
}

/** Whether walcast says that the database and the stream are up. */
export async function isHealthy() {
  try {
    return (await fetch(`${url}/healthcheck`)).status === 200
  } catch {
    return false
  }
}

/** Waits until walcast streams. */
export const healthy = () => until('walcast is healthy', isHealthy, 60)

/** `stack.sh postgres|walcast start|stop|kill|restart` */
export async function control(service, action) {
  const script = fileURLToPath(new URL('../stack.sh', import.meta.url))
  await promisify(execFile)(script, [service, action])
}

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token signed with the tests' secret. */
export function token(claims, { lifetime = 3600, secret = JWT_SECRET } = {}) {
  const now = Math.floor(Date.now() / 1000)
  const head = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ iat: now, exp: now + lifetime, ...claims })}`
  return `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`
}

export const anon = () => token({ role: 'anon' })
export const service = () => token({ role: 'service_role' })

/** A new user with a token. */
export function user() {
  const id = randomUUID()
  return { id, token: token({ role: 'authenticated', sub: id }) }
}
