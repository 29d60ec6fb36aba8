// The fan-out of `ws` in Node, for comparison: /N subscribes to topic N; what comes on /publish goes
// to the topic named by its first five bytes. Prints its port.
import { createRequire } from 'node:module'

const require = createRequire(new URL('../clients/javascript/package.json', import.meta.url))
const { WebSocketServer } = require('ws')

const topics = new Map()
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false })
server.on('listening', () => console.log(server.address().port))
server.on('connection', (socket, request) => {
  if (request.url === '/publish') {
    socket.on('message', (message) => {
      const content = message.subarray(5)
      for (const subscriber of topics.get(Number(message.subarray(0, 5))) ?? []) subscriber.send(content)
    })
    return
  }
  const topic = Number(request.url.slice(1))
  if (!topics.has(topic)) topics.set(topic, new Set())
  topics.get(topic).add(socket)
  socket.on('close', () => topics.get(topic).delete(socket))
})
