// Applies an SQL file as superuser: psql is not part of every PostgreSQL installation.
import { readFile } from 'node:fs/promises'

import { database } from './stack.mjs'

const client = await database()
await client.query(await readFile(process.argv[2], 'utf8'))
await client.end()
