// Prints N ports that are free on 127.0.0.1, all held at once so that they differ.
import { createServer } from 'node:net'

const servers = Array.from({ length: Number(process.argv[2]) }, () => createServer())
const ports = await Promise.all(
  servers.map((server) => new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)))),
)
servers.forEach((server) => server.close())
console.log(ports.join(' '))
